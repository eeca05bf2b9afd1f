// Opens reports in headless Chromium as a reader would: looks, clicks a cell, filters, uses the
// keyboard, both colour schemes; and again with 100,000 records.
//
//   node report.mjs SMALL.html LARGE.html [FOLDER for screenshots]
import assert from "node:assert/strict";
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
