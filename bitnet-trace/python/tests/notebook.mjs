// Opens what a notebook shows of a comparison in headless Chromium: in the output of a cell, narrow and wide, in both
// colour schemes.
//
//   node notebook.mjs PACKAGE_JSON OUTPUT.html [FOLDER for screenshots]
//
// PACKAGE_JSON is that of the folder where playwright-core is installed.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [installed, output, shots] = process.argv.slice(2);
const { chromium } = createRequire(installed)("playwright-core");
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox"] });

// As JupyterLab shows a cell: the number at the left, the output beside it in a box that scrolls.
const notebook = output.replace(/\.html$/, "-notebook.html");
await writeFile(notebook, `<!doctype html><meta charset="utf-8"><title>Notebook</title>
<meta name="color-scheme" content="light dark">
<style>
  body { margin: 0; font-family: sans-serif; background: light-dark(#fff, #111); color: light-dark(#000, #eee); }
  .cell { display: flex; margin: 12px 40px; }
  .prompt { flex: 0 0 64px; font: 12px monospace; color: #888; }
  .output { flex: 1; min-width: 0; overflow: auto; }
</style>
<div class="cell"><div class="prompt">[3]:</div><div class="output"><code>bitnet_trace.diff("reference", "mine")</code></div></div>
<div class="cell"><div class="prompt">[3]:</div><div class="output" id="output">${await readFile(output, "utf8")}</div></div>
<div class="cell"><div class="prompt">[4]:</div><div class="output" id="after">the next cell</div></div>
<script>document.secret = "the notebook's";</script>`);

const luminance = (text) => text.match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
const backgrounds = {};
for (const colorScheme of ["light", "dark"]) {
  for (const width of [640, 860, 1500]) {
    const page = await (await browser.newContext({ viewport: { width, height: 900 }, colorScheme })).newPage();
    page.on("pageerror", (error) => { throw error; });
    page.on("request", (request) => assert.match(request.url(), /^(file|data|about):/, "the page asks the network"));
    await page.goto(pathToFileURL(notebook).href);
    const frame = await (await page.waitForSelector("iframe")).contentFrame();
    await frame.waitForFunction(() => document.getElementById("verdict").textContent !== "");
    assert.match(await frame.textContent("#verdict"), /First divergence: t0\/blk1\/up_proj diverged/);
    assert.match(await frame.textContent("#pair"), /up_proj\s+diverged[\s\S]*relative L2/);
    // What is drawn is there, and works.
    assert.ok(await frame.evaluate(() => {
      const canvas = document.querySelector("#map canvas");
      return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0);
    }));
    const all = await frame.locator("#list tbody tr").count();
    await frame.fill("#filter", "stage=up_proj");
    await frame.press("#filter", "Enter");
    const some = await frame.locator("#list tbody tr").count();
    assert.ok(some > 0 && some < all, `${some} of ${all}`);
    await frame.fill("#filter", "");
    await frame.press("#filter", "Enter");
    await frame.click("#next");
    assert.match(await frame.textContent("#pair"), /diverged/);
    // The frame fills the cell and does not stand out of it, and neither does the report out of the frame.
    const box = await page.locator("iframe").boundingBox(), cell = await page.locator("#output").boundingBox();
    assert.ok(Math.abs(box.width - cell.width) < 1 && box.x >= cell.x, JSON.stringify({ box, cell }));
    assert.ok(box.height > 400 && box.height < 900, `${box.height}`);
    assert.deepEqual(await page.evaluate(() => {
      const output = document.getElementById("output");
      return [output.scrollWidth > output.clientWidth, output.scrollHeight > output.clientHeight + 8];
    }), [false, false]);
    assert.ok(await frame.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth), `${width}: it scrolls sideways`);
    // What a trace holds cannot reach the notebook.
    assert.equal(await frame.evaluate(() => { try { return parent.document.secret; } catch (error) { return error.name; } }), "SecurityError");
    backgrounds[colorScheme] = luminance(await frame.evaluate(() => getComputedStyle(document.body).backgroundColor));
    if (shots) {
      await frame.evaluate(() => { scrollTo(0, 0); document.getElementById("map").scrollTo(0, 0); });
      await page.evaluate(() => scrollTo(0, 0));
      await page.screenshot({ path: `${shots}/notebook-${colorScheme}-${width}.png` });
    }
    await page.context().close();
  }
}
assert.ok(backgrounds.light > 200 && backgrounds.dark < 60, JSON.stringify(backgrounds));
await browser.close();
