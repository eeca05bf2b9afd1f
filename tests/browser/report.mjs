// Opens reports in headless Chromium as a reader would: looks, clicks a cell, filters, uses the
// keyboard, both colour schemes; and again with 100,000 pairs, in many steps and in one.
//
//   node report.mjs SMALL.html LARGE.html FILTER_CASES.json [FOLDER for screenshots]
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [small, large, cases, shots] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox"] });

async function open(file, options) {
  const page = await (await browser.newContext({ viewport: { width: 1200, height: 1000 }, ...options })).newPage();
  page.on("pageerror", (error) => { throw error; });
  page.on("request", (request) => assert.match(request.url(), /^(file|data):/, "the page asks the network"));
  await page.goto(pathToFileURL(file).href);
  return page;
}
// A report whose data is changed.
async function changed(name, change, from = small) {
  const [, before, json, after] = (await readFile(from, "utf8")).match(/^([\s\S]*<script id="data" type="application\/json">)(.*)(<\/script>[\s\S]*)$/);
  const data = JSON.parse(json), file = from.replace(/[a-z]+\.html$/, `${name}.html`);
  assert.ok(!json.includes("<"), "what a trace holds is no tag");
  change(data);
  assert.notEqual(file, from);
  await writeFile(file, before + JSON.stringify(data).replaceAll("<", "\\u003c") + after);
  return file;
}
const shot = async (page, name) => { if (shots) { await frame(page); await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true }); } };
// Waits until the page has drawn what was asked for.
const frame = (page) => page.evaluate(() => new Promise((done) => { requestAnimationFrame(() => requestAnimationFrame(done)); }));
const background = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
const inked = (page) => page.evaluate(() => {
  const canvas = document.getElementById("growth");
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0);
});

// The position in the window of the first cell of the map whose description matches; the map is scrolled to it.
async function cell(page, description) {
  return page.evaluate((text) => {
    const pattern = new RegExp(text), root = document.getElementById("map");
    const [at] = [...map.cells].find(([, index]) => pattern.test(map.name(index)));
    const x = at % map.columns.length, y = Math.floor(at / map.columns.length);
    root.scrollIntoView({ block: "center" });
    root.scrollTo(x * map.width, y * 21);
    const box = root.getBoundingClientRect();
    return { x: box.left + 1 + map.label + x * map.width - root.scrollLeft + map.width / 2, y: box.top + 1 + 22 + y * 21 - root.scrollTop + 10 };
  }, description.source);
}
// The colour that a canvas drew at a position in the window.
const pixel = (page, { x, y }) => page.evaluate(([left, top]) => {
  const canvas = document.querySelector("#map canvas"), box = canvas.getBoundingClientRect();
  return [...canvas.getContext("2d").getImageData(Math.round(left - box.left), Math.round(top - box.top), 1, 1).data].slice(0, 3);
}, [x, y]);
// What a screen reader says about the active cell of the map.
const active = (page) => page.evaluate(() => {
  const root = document.getElementById("map"), found = document.getElementById(root.getAttribute("aria-activedescendant"));
  return found === null ? null : { role: found.getAttribute("role"), row: found.parentElement.getAttribute("aria-rowindex"), column: found.getAttribute("aria-colindex"), text: found.textContent };
});
const focused = (page) => page.evaluate(() => document.activeElement.id);
// Types a filter and applies it at once, without waiting for the next key.
async function filter(page, text) {
  await page.fill("#filter", text);
  await page.press("#filter", "Enter");
}
const shown = (page) => page.locator("#list tbody tr");
const elements = (page) => page.evaluate(() => document.querySelectorAll("*").length);

{
  const page = await open(small, { colorScheme: "light" });
  assert.match(await page.textContent("#verdict"), /First divergence: .*q_extra diverged/);
  // The first divergence is shown with its story from the start.
  assert.match(await page.textContent("#pair"), /q_extra\s+diverged[\s\S]*relative L2/);
  assert.ok(await inked(page), "the growth of the error is drawn");
  assert.match(await page.getAttribute("#growth", "aria-label"), /logarithmic\. The largest: t1\/blk1\/q_extra: diverged, relative L2 5\.00e-1/);
  assert.ok((await page.evaluate(() => map.cells.size)) > 10);
  // Verdicts are told apart without colours.
  assert.deepEqual(await page.evaluate(() => { const { text, first: isFirst } = map.look(first); return [text, isFirst]; }), ["✕", true]);
  assert.match(await page.textContent("#legend"), /✕ diverged/);
  const wrong = await cell(page, /q_extra: diverged/), right = await cell(page, /attn_norm: identical/);
  await frame(page);
  await page.mouse.click(right.x, right.y);
  assert.match(await page.textContent("#pair"), /attn_norm\s+identical/);
  assert.deepEqual([await focused(page), (await active(page)).text], ["map", "t1/blk0/attn_norm: identical"]);
  await frame(page);
  const there = await cell(page, /q_extra: diverged/);
  await frame(page);
  assert.notDeepEqual(await pixel(page, there), await pixel(page, await cell(page, /attn_norm: identical/)));
  assert.ok(wrong.x > 0);
  // The frame of the first divergence.
  const edge = await cell(page, /q_extra: diverged/);
  await frame(page);
  assert.deepEqual(await pixel(page, { x: edge.x, y: edge.y - 10 }), [0xc6, 0x28, 0x28]);
  await page.mouse.move(edge.x, edge.y);
  assert.match(await page.getAttribute("#map canvas", "title"), /q_extra: diverged, relative L2 5\.00e-1/);
  // Arrow keys move from cell to cell, n goes to the next divergence.
  await page.keyboard.press("ArrowDown");
  assert.doesNotMatch(await page.textContent("#pair"), /attn_norm\s+identical/);
  await page.keyboard.press("n");
  assert.match(await page.textContent("#pair"), /diverged/);
  await page.keyboard.press("p");
  assert.match(await page.textContent("#pair"), /diverged/);
  // Filters by stage, layer and verdict.
  const listed = () => shown(page).count();
  const all = await listed();
  await filter(page, "stage=q_*");
  const some = await listed();
  assert.ok(some > 0 && some < all, `${some} of ${all}`);
  // The map has the rows that hold a pair that is wanted; other pairs in them are hollow.
  assert.ok(await page.evaluate(() => map.rows.length > 0 && map.rows.every((row) => row.startsWith("q_"))));
  await filter(page, "stage=q_proj,layer=0;stage=k_proj,layer=1");
  assert.deepEqual(await page.evaluate(() => [...map.cells.values()].map((index) => [map.name(index).split(":")[0], map.look(index).dim])), [
    ["t1/blk0/q_proj", false], ["t1/blk0/k_proj", true], ["t1/blk1/q_proj", true], ["t1/blk1/k_proj", false],
  ]);
  await filter(page, "stage=q_*");
  await page.selectOption("#only", "diverged");
  assert.ok((await listed()) > 0 && (await listed()) <= some);
  await filter(page, "");
  await page.selectOption("#only", "");
  await filter(page, "layer=1");
  assert.ok((await shown(page).allTextContents()).every((row) => row.includes("blk1/")));
  await filter(page, "");
  // Typing alone filters too, once it pauses.
  await page.fill("#filter", "stage=logits");
  assert.equal(await listed(), all);
  await page.waitForFunction(() => document.querySelectorAll("#list tbody tr").length === 3);
  // A wrong filter is explained, and changes nothing.
  await filter(page, "stag=logits");
  assert.match(await page.textContent("#filter-error"), /^unknown key `stag`, did you mean `stage`\? Expected one of: stage, name, io, layer, seq, request\./);
  assert.ok(await page.locator("#filter-error").isVisible());
  assert.match(await page.textContent("#filter-syntax"), /stage=attn_\*,layer=0-3;stage=logits/);
  assert.deepEqual([await page.getAttribute("#filter", "aria-invalid"), await listed()], ["true", 3]);
  await filter(page, "stage=nowhere");
  assert.deepEqual([await page.locator("#filter-error").isVisible(), await page.textContent("#shown"), await listed()], [false, "no pair passes the filter", 0]);
  await filter(page, "");
  assert.equal(await listed(), all);
  // Choosing a pair of the list shows it and chooses its step.
  await shown(page).last().click();
  assert.notEqual(await page.inputValue("#step"), "");
  assert.equal(await page.locator("#list tr[aria-current]").textContent(), await shown(page).last().textContent());
  // The texts of a trace are shown as text and are not markup of the page.
  await filter(page, "stage=*script*");
  await shown(page).first().click();
  assert.match(await page.textContent("#pair"), /<img src=x/);
  assert.match(await page.textContent("#runs"), /<img src=x/);
  assert.equal(await page.locator("img").count(), 0);
  assert.doesNotMatch(await page.title(), /taken over/);
  await filter(page, "");
  await page.click("#next");
  // The runs are shown side by side, with the differences first.
  assert.match(await page.locator("#runs tr").nth(1).textContent(), /≠/);
  await shot(page, "light");
  assert.equal(await page.textContent("#theme"), "Dark theme");
  await page.click("#theme");
  assert.equal(await page.textContent("#theme"), "Light theme");
  assert.notEqual(await background(page), "rgb(255, 255, 255)");
  const dark = await open(small, { colorScheme: "dark" });
  assert.notEqual(await background(dark), "rgb(255, 255, 255)");
  await shot(dark, "dark");
  // Texts can be read in both schemes: a contrast of 4.5 at least (WCAG 2.2, 1.4.3).
  for (const scheme of ["light", "dark"]) {
    const seen = await open(small, { colorScheme: scheme });
    const contrasts = await seen.evaluate(() => {
      const channels = (text) => { const pen = document.createElement("canvas").getContext("2d"); pen.fillStyle = text; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data]; };
      const light = (text) => channels(text).slice(0, 3).map((value) => value / 255).map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4).reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
      const contrast = (a, b) => { const [dark, bright] = [light(a), light(b)].sort((x, y) => x - y); return (bright + 0.05) / (dark + 0.05); };
      const behind = (element) => { for (let up = element; up; up = up.parentElement) { const colour = getComputedStyle(up).backgroundColor; if (!/, 0\)$/.test(colour)) return colour; } return "#fff"; };
      const texts = [...document.querySelectorAll("body *")].filter((element) => element.checkVisibility() && !element.closest(".active, :disabled, script") && [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()));
      const found = texts.map((element) => [`${element.tagName}.${element.className} ${element.textContent.slice(0, 20)}`, contrast(getComputedStyle(element).color, behind(element)), getComputedStyle(element).opacity]);
      for (const verdict of verdicts) for (const error of [null, 0, 1e-8, 1e-6, 1e-4, 1e-2, 1]) { const [fill, ink] = colours(verdict, error, isDark()); found.push([`${verdict.name} ${error}`, contrast(fill, ink), "1"]); }
      return found;
    });
    assert.ok(contrasts.length > 100);
    assert.deepEqual(contrasts.filter(([, contrast, opacity]) => contrast < 4.5 || opacity !== "1"), [], scheme);
  }
  const phone = await open(small, { viewport: { width: 400, height: 800 } });
  assert.ok((await phone.evaluate(() => document.documentElement.scrollWidth)) <= 400, "nothing stands out of a narrow window");
}
{
  // Records without a partner are not divergences: the headline, the key n and the counts skip them.
  const [VERDICT, ERROR, DETAILS] = [3, 4, 6];
  const lose = (data, index, side) => { Object.assign(data.pairs[index], { [VERDICT]: data.verdicts.indexOf(side), [ERROR]: null, [DETAILS]: null }); };
  const coverage = [
    { stage: "embeddings", side: "reference", records: 1, layers: "1 layer", note: null },
    { stage: "<b>attn_norm</b>", side: "trace", records: 30, layers: "30 layers", note: "why" },
  ];
  const title = (page) => page.textContent("#verdict");
  const alone = await changed("alone", (data) => {
    lose(data, 0, "only-reference");
    lose(data, data.first - 1, "only-trace");
    Object.assign(data, { onlyCommon: false, coverage, matches: false });
  });
  const page = await open(alone, {});
  assert.match(await title(page), /First divergence: .*q_extra diverged/);
  assert.match(await page.textContent("#alone"), /^2 records have no partner/);
  assert.deepEqual(await page.evaluate(() => { const { text, first: isFirst } = map.look(first); return [text, isFirst, [...map.cells.values()].includes(first)]; }), ["✕", true, true]);
  const diverged = Number((await page.locator('#only option[value="diverged"]').textContent()).match(/\((\d+)\)/)[1]);
  for (let pressed = 0; pressed <= diverged; pressed += 1) {
    await page.keyboard.press("n");
    assert.match(await page.textContent("#pair"), /diverged/);
  }
  for (let pressed = 0; pressed <= diverged; pressed += 1) {
    await page.keyboard.press("p");
    assert.match(await page.textContent("#pair"), /diverged/);
  }
  const marked = (await page.locator("#step option").allTextContents()).map((text) => Number(text.match(/\((\d+) ✕\)/)?.[1] ?? 0));
  assert.equal(marked.reduce((sum, count) => sum + count), diverged);
  const partners = page.locator("#partners tr");
  assert.deepEqual(await partners.allTextContents(), ["stageonly inrecordsextentwhy", "embeddingsreference11 layer", "<b>attn_norm</b>trace3030 layerswhy"]);
  assert.ok(await page.locator("#coverage").isVisible());
  assert.ok((await page.locator("#list td.bad", { hasText: "only-reference" }).count()) > 0);
  await shot(page, "coverage-light");
  await shot(await open(alone, { colorScheme: "dark" }), "coverage-dark");
  // Nothing diverges: whether the traces match depends on what was asked.
  const same = (data) => { data.pairs.forEach((pair) => { pair[VERDICT] = 0; }); data.first = null; lose(data, 1, "only-reference"); };
  const missing = await open(await changed("missing", (data) => { same(data); Object.assign(data, { onlyCommon: false, coverage, matches: false }); }), {});
  assert.match(await title(missing), /No match: no divergence in \d+ pairs, but 1 record has no partner/);
  assert.ok(await missing.locator("#next").isDisabled());
  const common = await open(await changed("common", (data) => { same(data); Object.assign(data, { onlyCommon: true, coverage, matches: true }); }), {});
  assert.match(await title(common), /^Match: \d+ pairs, no divergence$/);
  assert.match(await common.getAttribute("#verdict", "class"), /good/);
  assert.equal(await common.locator("#list td.bad").count(), 0);
  assert.equal(await common.locator("#step option", { hasText: "✕" }).count(), 0);
  assert.ok(await common.locator("#coverage").isVisible());
  // A pair that could not be compared is neither a divergence nor a match.
  const uncompared = (data) => { data.pairs.forEach((pair) => { pair[VERDICT] = 0; }); data.first = null; data.pairs[1][VERDICT] = data.verdicts.indexOf("not compared"); };
  const apart = await open(await changed("apart", (data) => { uncompared(data); Object.assign(data, { coverage: [], matches: false, conclusion: "not-all-compared" }); }), {});
  assert.match(await title(apart), /No match: no divergence in \d+ pairs, but 1 pair could not be compared/);
  assert.ok(await apart.locator("#next").isDisabled());
  // The page shows how records were aligned and which stages are probably the same.
  const adapted = await open(await changed("adapted", (data) => Object.assign(data, {
    adaptations: [{ text: "token by token", pairs: 3, stages: { "<i>q</i>": 3 } }], coverage,
    suggestions: [{ reference: "<i>a</i>", trace: "b", records: 30, identical: 0, rule: "[[map]]" }], hints: ["capture values"],
  })), {});
  assert.match(await adapted.textContent("#adapted"), /3token by token<i>q<\/i>/);
  assert.match(await adapted.textContent("#suggested"), /Hint: capture values[\s\S]*<i>a<\/i> of the reference and b of the trace[\s\S]*\[\[map\]\]/);
  await shot(adapted, "adapted");
  // A report without the two fields, as older reports were.
  const plain = await open(small, {});
  assert.ok(!(await plain.locator("#coverage").isVisible()));
  // A pair of the list is chosen by the keyboard too.
  await plain.locator("#list button").nth(2).focus();
  await plain.keyboard.press("Enter");
  assert.equal((await plain.textContent("#pair")).split("  ")[0], await plain.locator("#list button").nth(2).textContent());
  // The syntax of a filter: alternatives, one character, records without a layer.
  const rows = async (text) => {
    await filter(plain, text);
    const names = await plain.locator("#list button").allTextContents();
    await filter(plain, "");
    return names;
  };
  assert.ok((await rows("stage=?_proj|embeddings")).some((name) => name.endsWith("embeddings")));
  assert.ok((await rows("stage=?_proj")).every((name) => /\/[a-z]_proj$/.test(name)));
  const none = await rows("layer=none");
  assert.ok(none.length > 0 && none.every((name) => !name.includes("blk")));
  assert.ok((await rows("seq=2")).every((name) => name.startsWith("t2/")));
  assert.deepEqual(await rows("name=t1/blk0/q_*;name=t2/logits"), ["t1/blk0/q_proj", "t1/blk0/q_rope", "t2/logits"]);
}
{
  // The filter of the page matches like that of the command: a test in Rust reads the same cases.
  const page = await open(small, {});
  const failed = await page.evaluate(({ records, answers, errors }) => {
    const big = (value) => value === null ? null : BigInt(value), all = records.map((record) => ({ ...record, seq: big(record.seq), request: big(record.request) }));
    const outcome = (text) => { try { return all.map(parseFilter(text)).map(Number); } catch (error) { return error.message; } };
    return [...answers, ...errors].map(([text, expected]) => ({ text, expected, found: outcome(text) })).filter(({ expected, found }) => JSON.stringify(expected) !== JSON.stringify(found));
  }, JSON.parse(await readFile(cases, "utf8")));
  assert.deepEqual(failed, []);
}
{
  // Everything can be done with the keyboard alone.
  const page = await open(small, {}), order = [];
  for (let stops = 0; stops < 20 && order.at(-1) !== "scroll"; stops += 1) {
    await page.keyboard.press("Tab");
    order.push(await focused(page) || await page.evaluate(() => document.activeElement.tagName));
  }
  assert.deepEqual(order.filter((id) => id !== "BODY"), ["theme", "filter", "only", "step", "previous", "next", "SUMMARY", "map", "pair", "scroll"]);
  await page.focus("#map");
  const roles = await page.evaluate(() => ["role", "aria-rowcount", "aria-colcount"].map((name) => document.getElementById("map").getAttribute(name)));
  assert.deepEqual(roles, ["grid", ...(await page.evaluate(() => [map.rows.length + 1, map.columns.length + 1].map(String)))]);
  const go = async (...keys) => { for (const key of keys) await page.keyboard.press(key); return active(page); };
  const origin = await go("Control+Home");
  assert.deepEqual([origin.role, origin.row], ["gridcell", "2"]);
  const end = await go("End"), home = await go("Home"), last = await go("Control+End");
  assert.ok(Number(end.column) >= Number(home.column) && Number(last.row) > Number(end.row));
  assert.equal((await page.textContent("#pair")).split("  ")[0], last.text.split(":")[0]);
  // Every cell is reached by the arrow keys alone, and each says what it is.
  const reached = await page.evaluate(async () => {
    const seen = new Set(), from = [map.cursor.index], press = (key) => document.getElementById("map").dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    while (from.length > 0) {
      const index = from.pop();
      if (seen.has(index)) continue;
      seen.add(index);
      for (const key of ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]) { choose(index, false); press(key); from.push(map.cursor.index); }
    }
    return [seen.size, map.cells.size];
  });
  assert.equal(reached[0], reached[1]);
  const [before, after] = [await go("Control+Home"), await go("n")];
  assert.notEqual(before.text, after.text);
  assert.match(after.text, /diverged/);
  // The page does not take over keys of the browser.
  const held = await active(page);
  assert.deepEqual(await go("Control+p", "Alt+n"), held);
  // The focus is visible: the map has an outline, and the frame of the active cell is thicker.
  assert.notEqual(await page.evaluate(() => getComputedStyle(document.getElementById("map")).outlineStyle), "none");
  // Tables have captions, and their headers have scopes.
  for (const id of ["list", "runs"]) {
    assert.equal(await page.locator(`#${id} caption`).count(), 1);
    assert.equal(await page.locator(`#${id} th:not([scope])`).count(), 0);
  }
  assert.equal(await page.locator("#list tbody tr").first().locator("th[scope=row] button").count(), 1);
}
{
  const page = await open(large, {});
  assert.match(await page.textContent("#listed"), /of 100000/);
  // A thousand steps do not make a thousand options; the ends are among them, and a filter reaches each step.
  assert.ok((await page.locator("#step option").count()) < 110);
  assert.match(await page.locator("#step option").last().textContent(), /^t999/);
  await filter(page, "seq=500,stage=stage_1?");
  assert.deepEqual(await page.locator("#step option").allTextContents(), ["t500 (5 ✕)"]);
  assert.match(await page.textContent("#shown"), /^50 of 100 pairs of this step/);
  await filter(page, "stage=stage_7");
  await page.selectOption("#only", "diverged");
  await shown(page).first().click();
  assert.match(await page.textContent("#pair"), /stage_7\s+diverged/);
  // The list turns its pages.
  await filter(page, "");
  await page.selectOption("#only", "");
  const name = () => page.locator("#list button").first().textContent();
  assert.deepEqual([await shown(page).count(), await name()], [300, "t0/blk0/stage_0"]);
  await page.click("#later");
  assert.deepEqual([await page.textContent("#listed"), await name()], ["301 to 600 of 100000", "t3/blk0/stage_0"]);
  await page.click("#earlier");
  assert.deepEqual([await page.isDisabled("#earlier"), await name()], [true, "t0/blk0/stage_0"]);
  assert.ok((await elements(page)) < 5000);
  // A sentence in place of the runs is on one line.
  const sentence = page.locator("#runs td", { hasText: "neither side has a run.json" });
  assert.ok((await sentence.boundingBox()).height < 40);
  await shot(page, "large");
}
{
  // 100,000 pairs in one step: a map of a thousand stages and a hundred layers; one of 100,000 stages, as of
  // names that follow no convention; one where every stage has a layer of its own.
  const PAIRS = 100_000, [STEP, LAYER, STAGE] = [0, 1, 2];
  const shapes = { square: (at) => [Math.floor(at / 1000), at % 1000], names: (at) => [null, at], diagonal: (at) => [at, at] };
  for (const [name, place] of Object.entries(shapes)) {
    const file = await changed(name, (data) => {
      assert.equal(data.pairs.length, PAIRS);
      data.steps = [["t0", "0", null]];
      data.pairs.forEach((pair, at) => { const [layer, stage] = place(at); Object.assign(pair, { [STEP]: 0, [LAYER]: layer, [STAGE]: stage }); });
      data.stages = Array.from({ length: Math.max(...data.pairs.map((pair) => pair[STAGE]).slice(-1000)) + 1 }, (_, at) => [`stage_${at}`, `stage_${at}`, "out"]);
    }, large);
    const begun = performance.now(), page = await open(file, {});
    await frame(page);
    const loaded = performance.now() - begun;
    assert.equal(await page.evaluate(() => map.cells.size), PAIRS);
    assert.ok((await elements(page)) < 5000, `${name}: ${await elements(page)} elements`);
    assert.match(await page.textContent("#pair"), /diverged/);
    // The time from the key to the frame that shows its effect.
    const pressed = async (key) => {
      await page.evaluate(() => {
        addEventListener("keydown", () => {
          const from = performance.now();
          window.answered = new Promise((done) => { requestAnimationFrame(() => { const channel = new MessageChannel(); channel.port1.onmessage = () => done(performance.now() - from); channel.port2.postMessage(0); }); });
        }, { capture: true, once: true });
      });
      const before = await active(page);
      await page.keyboard.press(key);
      const time = await page.evaluate(() => window.answered);
      assert.notDeepEqual(await active(page), before, `${name}: ${key} moves`);
      return time;
    };
    await page.focus("#map");
    const times = {};
    for (const key of ["ArrowDown", "ArrowUp", "n", "p", "Control+End", "Control+Home", "PageDown"]) {
      const all = [];
      for (let again = 0; again < (key.startsWith("Control") ? 1 : 5); again += 1) all.push(await pressed(key));
      times[key] = Math.round(all.sort((a, b) => a - b)[Math.floor(all.length / 2)]);
    }
    const filtering = await page.evaluate(() => { const from = performance.now(); document.getElementById("filter").value = "name=*stage_7*,layer!=3"; filterAnew(); return Math.round(performance.now() - from); });
    assert.ok((await page.evaluate(() => map.rows.every((row) => row.includes("stage_7")) && map.rows.length > 0)));
    console.log(`${PAIRS} pairs in one step, ${name}: opened in ${Math.round(loaded)} ms; ${Object.entries(times).map(([key, time]) => `${key} ${time} ms`).join(", ")}; filter ${filtering} ms; ${await elements(page)} elements`);
    await shot(page, `one-step-${name}`);
    await page.context().close();
  }
}
await browser.close();
console.log("the report holds in a browser");
