// Opens reports in headless Chromium as a reader would: looks, clicks a cell, filters, uses the
// keyboard, both colour schemes; and again with 100,000 records.
//
//   node report.mjs SMALL.html LARGE.html [FOLDER for screenshots]
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [small, large, shots] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox"] });

async function open(file, options) {
  const page = await (await browser.newContext({ viewport: { width: 1200, height: 1000 }, ...options })).newPage();
  page.on("pageerror", (error) => { throw error; });
  page.on("request", (request) => assert.match(request.url(), /^(file|data):/, "the page asks the network"));
  await page.goto(pathToFileURL(file).href);
  return page;
}
// A report whose data is changed.
async function changed(name, change) {
  const [, before, json, after] = (await readFile(small, "utf8")).match(/^([\s\S]*\nconst data = )(.*)(;\n[\s\S]*)$/);
  const data = JSON.parse(json), file = small.replace(/small\.html$/, `${name}.html`);
  change(data);
  assert.notEqual(file, small);
  await writeFile(file, before + JSON.stringify(data).replaceAll("<", "\\u003c") + after);
  return file;
}
const shot = async (page, name) => { if (shots) await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true }); };
const background = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
const inked = (page) => page.evaluate(() => {
  const canvas = document.getElementById("growth");
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0);
});

{
  const page = await open(small, { colorScheme: "light" });
  assert.match(await page.textContent("#verdict"), /First divergence: .*q_extra diverged/);
  // The first divergence is shown with its story from the start.
  assert.match(await page.textContent("#pair"), /q_extra\s+diverged[\s\S]*relative L2/);
  assert.ok(await inked(page), "the growth of the error is drawn");
  const cells = page.locator("#map button");
  assert.ok((await cells.count()) > 10);
  // Verdicts are told apart without colours.
  assert.equal(await page.locator("#map button.first").textContent(), "✕");
  await page.locator('#map button[title*="attn_norm: identical"]').first().click();
  assert.match(await page.textContent("#pair"), /attn_norm\s+identical/);
  // Arrow keys move from cell to cell, n goes to the next divergence.
  await page.keyboard.press("ArrowDown");
  assert.doesNotMatch(await page.textContent("#pair"), /attn_norm\s+identical/);
  await page.keyboard.press("n");
  assert.match(await page.textContent("#pair"), /diverged/);
  // Filters by stage, layer and verdict.
  const listed = () => page.locator("#list tr").count();
  const all = await listed();
  await page.fill("#stage", "q_*");
  const some = await listed();
  assert.ok(some > 0 && some < all, `${some} of ${all}`);
  assert.ok((await page.locator("#map button.dim").count()) > 0);
  await page.selectOption("#only", "diverged");
  assert.ok((await listed()) > 0 && (await listed()) <= some);
  await page.fill("#stage", "");
  await page.selectOption("#only", "");
  await page.fill("#layer", "1");
  assert.ok((await page.locator("#list tr").allTextContents()).every((row) => row.includes("blk1/")));
  await page.fill("#layer", "");
  // A pair of the list is shown, its step is chosen.
  await page.locator("#list tr").last().click();
  assert.notEqual(await page.inputValue("#step"), "");
  // What a trace holds is shown as text, and is no part of the page.
  await page.fill("#stage", "*script*");
  await page.locator("#list tr").first().click();
  assert.match(await page.textContent("#pair"), /<img src=x/);
  assert.match(await page.textContent("#runs"), /<img src=x/);
  assert.equal(await page.locator("img").count(), 0);
  assert.doesNotMatch(await page.title(), /taken over/);
  await page.fill("#stage", "");
  await page.locator("#list tr").last().click();
  // The runs side by side, what differs first.
  assert.match(await page.locator("#runs tr").nth(1).textContent(), /≠/);
  await shot(page, "light");
  await page.click("#theme");
  assert.notEqual(await background(page), "rgb(255, 255, 255)");
  const dark = await open(small, { colorScheme: "dark" });
  assert.notEqual(await background(dark), "rgb(255, 255, 255)");
  await shot(dark, "dark");
  const phone = await open(small, { viewport: { width: 400, height: 800 } });
  assert.ok((await phone.evaluate(() => document.documentElement.scrollWidth)) <= 400, "nothing stands out of a narrow window");
}
{
  // Records without a partner are no divergence: the headline, n and the counts pass over them.
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
  assert.equal(await page.locator("#map button.first").textContent(), "✕");
  const diverged = Number((await page.locator('#only option[value="diverged"]').textContent()).match(/\((\d+)\)/)[1]);
  for (let pressed = 0; pressed <= diverged; pressed += 1) {
    await page.keyboard.press("n");
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
  // A pair that could not be compared is no divergence, and no match.
  const uncompared = (data) => { data.pairs.forEach((pair) => { pair[VERDICT] = 0; }); data.first = null; data.pairs[1][VERDICT] = data.verdicts.indexOf("not compared"); };
  const apart = await open(await changed("apart", (data) => { uncompared(data); Object.assign(data, { coverage: [], matches: false, conclusion: "not-all-compared" }); }), {});
  assert.match(await title(apart), /No match: no divergence in \d+ pairs, but 1 pair could not be compared/);
  assert.ok(await apart.locator("#next").isDisabled());
  // How records were brought together, and what is probably the same.
  const adapted = await open(await changed("adapted", (data) => Object.assign(data, {
    adaptations: [{ text: "token by token", pairs: 3, stages: { "<i>q</i>": 3 } }], coverage,
    suggestions: [{ reference: "<i>a</i>", trace: "b", records: 30, identical: 0, rule: "[[map]]" }], hints: ["capture values"],
  })), {});
  assert.match(await adapted.textContent("#adapted"), /3token by token<i>q<\/i>/);
  assert.match(await adapted.textContent("#suggested"), /Hint: capture values[\s\S]*<i>a<\/i> of the reference and b of the trace[\s\S]*\[\[map\]\]/);
  await shot(adapted, "adapted");
  // Without the two fields, as reports had been.
  const plain = await open(small, {});
  assert.ok(!(await plain.locator("#coverage").isVisible()));
  // A pair of the list is chosen by the keyboard too.
  await plain.locator("#list button").nth(2).focus();
  await plain.keyboard.press("Enter");
  assert.equal((await plain.textContent("#pair")).split("  ")[0], await plain.locator("#list button").nth(2).textContent());
  // Words of a filter: alternatives, one character, no layer.
  const rows = async (id, text) => {
    await plain.fill(id, text);
    const names = await plain.locator("#list button").allTextContents();
    await plain.fill(id, "");
    return names;
  };
  assert.ok((await rows("#stage", "?_proj|embeddings")).some((name) => name.endsWith("embeddings")));
  assert.ok((await rows("#stage", "?_proj")).every((name) => /\/[a-z]_proj$/.test(name)));
  const none = await rows("#layer", "none");
  assert.ok(none.length > 0 && none.every((name) => !name.includes("blk")));
}
{
  const page = await open(large, {});
  assert.match(await page.textContent("#listed"), /of 100000/);
  await page.fill("#stage", "stage_7");
  await page.selectOption("#only", "diverged");
  await page.locator("#list tr").first().click();
  assert.match(await page.textContent("#pair"), /stage_7\s+diverged/);
  // A sentence in place of the runs stands on one line.
  const sentence = page.locator("#runs td", { hasText: "neither side has a run.json" });
  assert.ok((await sentence.boundingBox()).height < 40);
  await shot(page, "large");
}
await browser.close();
console.log("the report holds in a browser");
