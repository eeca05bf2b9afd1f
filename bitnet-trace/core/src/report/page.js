"use strict";
// The report: reads the comparison from the element `data` and shows it. Text from a trace is only ever inserted as
// text, never as HTML.
/* global parseFilter, PairMap, GrowthCurve */

const by = (id) => document.getElementById(id);
const data = JSON.parse(by("data").textContent);
// The indices of the parts of a pair, of a step and of a stage.
const [STEP, LAYER, STAGE, VERDICT, ERROR, GAIN, DETAILS] = [0, 1, 2, 3, 4, 5, 6];
const [TEXT, SEQ, REQUEST] = [0, 1, 2];
const [LABEL, OWN, IO] = [0, 1, 2];
const GLYPHS = { "identical": "", "within": "≤", "diverged": "✕", "shape": "▭", "dtype": "T", "nonfinite": "∞", "only-reference": "−", "only-trace": "+", "not compared": "?" };
// The number of rows on a page of the list, and the number of steps to choose from on either side of the chosen one.
const LISTED = 300;
const STEPS_BESIDE = 50;
// The filter is applied when no key was pressed for this long, in ms.
const PATIENCE = 150;

// The properties of each verdict. A record without a partner is not a divergence, but it keeps the traces from matching
// unless such records are ignored.
const verdicts = data.verdicts.map((name) => {
  const alone = name.startsWith("only-"), uncompared = name === "not compared";
  const diverges = !alone && !uncompared && name !== "identical" && name !== "within";
  const differs = diverges || uncompared || alone && !data.onlyCommon;
  return { name, alone, uncompared, diverges, differs, weight: diverges ? 2 : differs ? 1 : 0 };
});
const verdictOf = (pair) => verdicts[pair[VERDICT]];
const diverges = (pair) => verdictOf(pair).diverges;
const first = data.pairs.findIndex(diverges);
const count = (number, one, many) => number === 1 ? `1 ${one}` : `${number} ${many}`;
const number = (value) => value === null ? "" : value === 0 ? "0" : value.toExponential(2);

const seqs = data.steps.map((step) => step[SEQ] === null ? null : BigInt(step[SEQ]));
const requests = data.steps.map((step) => step[REQUEST] === null ? null : BigInt(step[REQUEST]));
const placeOf = (pair) => (pair[LAYER] === null ? "" : `blk${pair[LAYER]}/`) + data.stages[pair[STAGE]][LABEL];
function nameOf(pair) {
  const step = data.steps[pair[STEP]][TEXT];
  return (step === "-" ? "" : `${step}/`) + placeOf(pair);
}
function described(pair) {
  return `${nameOf(pair)}: ${verdictOf(pair).name}${pair[ERROR] === null ? "" : `, relative L2 ${number(pair[ERROR])}`}`;
}
// The fields of a pair that a filter tests. The name is that of the record, without request, process and token.
function recordOf(pair) {
  const stage = data.stages[pair[STAGE]], seq = seqs[pair[STEP]];
  return {
    stage: stage[OWN], io: stage[IO], layer: pair[LAYER], seq, request: requests[pair[STEP]],
    get name() { return (seq === null ? "" : `t${seq}/`) + placeOf(pair); },
  };
}

function element(tag, text, attributes) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes ?? {})) made.setAttribute(name, value);
  return made;
}
function row(cells, attributes) {
  const made = element("tr", undefined, attributes);
  made.append(...cells);
  return made;
}
const heads = (titles) => row(titles.map((title) => element("th", title, { scope: "col" })));
const captioned = (text) => element("caption", text, { class: "unseen" });

const darkAsked = matchMedia("(prefers-color-scheme: dark)");
function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : darkAsked.matches;
}
// The colours of a cell and of its text. Errors from 1e-8 (faint) to 1 (strong) have a scale of colours; verdicts
// without an error have a colour of their own.
function colours(verdict, error, dark) {
  const { name } = verdict;
  if (name === "identical") return dark ? ["#253029", "#b5c4ba"] : ["#e3ebe6", "#3c4a41"];
  if (verdict.alone || verdict.uncompared) return dark ? ["#59616b", "#fff"] : ["#c3c8ce", "#111"];
  if (name === "within") {
    const strength = strengthOf(error);
    return dark ? [`hsl(150 ${22 + 22 * strength}% ${22 + 8 * strength}%)`, "#e6f2ea"] : [`hsl(140 ${30 + 30 * strength}% ${88 - 22 * strength}%)`, "#111"];
  }
  if (name !== "diverged") return dark ? ["#c99be8", "#111"] : ["#d9a4f2", "#111"];
  if (error === null) return ["#ffab70", "#111"];
  const strength = strengthOf(error);
  return [`hsl(${45 - 40 * strength} 95% ${78 - 12 * strength}%)`, "#111"];
}
const strengthOf = (error) => error === null ? 0 : Math.min(1, Math.max(0, (Math.log10(Math.max(error, 1e-8)) + 8) / 8));

// What the reader has chosen.
const state = { chosen: null, step: null, from: 0, dark: isDark() };
// Whether the filter takes a pair; for each step, the number of pairs that it takes, and how many of them diverge.
const wanted = new Uint8Array(data.pairs.length);
const steps = data.steps.map(() => ({ pairs: [], wanted: 0, diverging: 0 }));
data.pairs.forEach((pair, index) => steps[pair[STEP]].pairs.push(index));
let wantedInAll = 0;
// The rows and columns of the map, by stage and layer.
let places = { row: new Map(), column: new Map() };

const map = new PairMap(by("map"), {
  name: (index) => described(data.pairs[index]),
  choose: (index) => choose(index, true),
  look: (index) => {
    const pair = data.pairs[index], verdict = verdictOf(pair), [fill, ink] = colours(verdict, pair[ERROR], state.dark);
    const more = pair[ERROR] === null || pair[ERROR] === 0 ? "" : pair[ERROR].toExponential(0);
    return { fill, ink, text: GLYPHS[verdict.name] ?? "", more, dim: wanted[index] === 0, first: index === first };
  },
});

const curve = new GrowthCurve(by("growth"), {
  count: data.pairs.length,
  // Identical pairs have no number: their error is 0.
  error: (index) => verdictOf(data.pairs[index]).name === "identical" ? 0 : data.pairs[index][ERROR],
  diverges: (index) => diverges(data.pairs[index]),
  wanted: (index) => wanted[index] === 1,
  name: (index) => described(data.pairs[index]),
  choose: (index) => choose(index, true),
});

// Applies the filter and the choice of a verdict. If the filter has an error, shows it, changes nothing and returns
// false.
function applyFilter() {
  const field = by("filter"), message = by("filter-error");
  let takes;
  try {
    takes = parseFilter(field.value);
  } catch (error) {
    message.textContent = `${error.message}. The previous filter still applies.`;
    message.hidden = false;
    field.setAttribute("aria-invalid", "true");
    if (!by("filter-help").open) by("filter-help").dataset.opened = by("filter-help").open = true;
    return false;
  }
  message.hidden = true;
  if (by("filter-help").dataset.opened) {
    by("filter-help").open = false;
    delete by("filter-help").dataset.opened;
  }
  field.removeAttribute("aria-invalid");
  const only = by("only").value === "" ? null : data.verdicts.indexOf(by("only").value);
  for (const step of steps) Object.assign(step, { wanted: 0, diverging: 0 });
  wantedInAll = 0;
  data.pairs.forEach((pair, index) => {
    const takesIt = (only === null || pair[VERDICT] === only) && takes(recordOf(pair));
    wanted[index] = takesIt ? 1 : 0;
    if (!takesIt) return;
    const step = steps[pair[STEP]];
    wantedInAll += 1;
    step.wanted += 1;
    if (diverges(pair)) step.diverging += 1;
  });
  return true;
}

// Stays at the chosen step if the filter takes one of its pairs; else goes to the first step that has one.
function settleStep() {
  if (state.step !== null && steps[state.step].wanted > 0) return;
  const at = steps.findIndex((step) => step.wanted > 0);
  if (at >= 0) state.step = at;
}

// Draws the steps to choose from: the first, the last, and those near the chosen one.
function drawSteps() {
  const all = [];
  steps.forEach((step, at) => { if (step.wanted > 0 || at === state.step) all.push(at); });
  const middle = all.indexOf(state.step);
  const near = all.filter((_, place) => Math.abs(place - middle) <= STEPS_BESIDE || place === 0 || place === all.length - 1);
  by("step").replaceChildren(...near.map((at) => {
    const text = data.steps[at][TEXT], wrong = steps[at].diverging;
    return element("option", (text === "-" ? "no step" : text) + (wrong ? ` (${wrong} ✕)` : ""), { value: at });
  }));
  by("step").disabled = all.length === 0;
  if (state.step !== null) by("step").value = state.step;
}

// Draws the rows and columns that have a pair which the filter takes. A cell with several pairs shows the worst.
function drawMap() {
  const indices = state.step === null ? [] : steps[state.step].pairs, rows = new Map(), layers = new Set();
  for (const index of indices) {
    if (wanted[index] === 0) continue;
    const pair = data.pairs[index];
    if (!rows.has(pair[STAGE])) rows.set(pair[STAGE], rows.size);
    layers.add(pair[LAYER]);
  }
  const sorted = [...layers].sort((a, b) => (a === null) - (b === null) || a - b);
  const column = new Map(sorted.map((layer, at) => [layer, at])), cells = new Map();
  for (const index of indices) {
    const pair = data.pairs[index], y = rows.get(pair[STAGE]), x = column.get(pair[LAYER]);
    if (x === undefined || y === undefined) continue;
    const cell = y * sorted.length + x, there = cells.get(cell);
    const rank = (at) => verdictOf(data.pairs[at]).weight + 3 * wanted[at];
    if (there === undefined || rank(index) > rank(there)) cells.set(cell, index);
  }
  places = { row: rows, column };
  map.show([...rows.keys()].map((stage) => data.stages[stage][LABEL]), sorted.map((layer) => layer === null ? "none" : String(layer)), cells);
  const ofStep = `${state.step === null ? 0 : steps[state.step].wanted} of ${indices.length} pairs of this step`;
  by("shown").textContent = wantedInAll === 0 && data.pairs.length > 0 ? "no pair passes the filter" : ofStep;
  markChosen();
}
function markChosen() {
  if (state.chosen === null) return;
  const pair = data.pairs[state.chosen], x = places.column.get(pair[LAYER]), y = places.row.get(pair[STAGE]);
  if (pair[STEP] === state.step && x !== undefined && y !== undefined) map.select(x, y, state.chosen);
}

function choose(index, focus) {
  const pair = data.pairs[index];
  state.chosen = index;
  if (state.step !== pair[STEP]) {
    state.step = pair[STEP];
    drawSteps();
    drawMap();
  } else {
    markChosen();
  }
  if (focus) {
    by("map").focus({ preventScroll: true });
    by("map").scrollIntoView({ block: "nearest" });
  }
  const details = pair[DETAILS] === null ? null : data.details[pair[DETAILS]];
  const numbers = [pair[ERROR] === null ? "" : `relative L2 ${number(pair[ERROR])}`, pair[GAIN] === null ? "" : `${pair[GAIN].toPrecision(4)} times the largest error before it`].filter(Boolean).join(", ");
  const lines = `${nameOf(pair)}  ${verdictOf(pair).name}\n` + (details || (numbers ? `  ${numbers}\n` : ""));
  by("pair").replaceChildren(...lines.match(/[^\n]*\n/g).map((line) => element("span", line)));
  markRow();
  curve.draw(index);
}
function goToDivergence(direction) {
  const all = data.pairs.length, from = state.chosen ?? (direction > 0 ? -1 : all);
  for (let away = 1; away <= all; away += 1) {
    const index = (from + direction * away + 2 * all) % all;
    if (diverges(data.pairs[index]) && wanted[index] === 1) {
      choose(index, true);
      return;
    }
  }
}

function drawList() {
  const rows = [];
  let passed = 0;
  for (let index = 0; index < data.pairs.length && rows.length < LISTED; index += 1) {
    if (wanted[index] === 0) continue;
    passed += 1;
    if (passed <= state.from) continue;
    const pair = data.pairs[index], verdict = verdictOf(pair), name = element("th", undefined, { scope: "row" });
    name.append(element("button", nameOf(pair), { type: "button" }));
    rows.push(row([
      name,
      element("td", verdict.name, { class: verdict.differs ? "bad" : verdict.alone ? "faint" : "good" }),
      element("td", number(pair[ERROR])),
      element("td", pair[GAIN] === null ? "" : `×${pair[GAIN].toPrecision(3)}`),
    ], { "data-index": index }));
  }
  by("list").tBodies[0].replaceChildren(...rows);
  by("scroll").scrollTop = 0;
  const last = state.from + rows.length;
  by("listed").textContent = wantedInAll > LISTED ? `${state.from + 1} to ${last} of ${wantedInAll}` : `${wantedInAll}`;
  by("pages").hidden = wantedInAll <= LISTED;
  by("earlier").disabled = state.from === 0;
  by("later").disabled = last >= wantedInAll;
  markRow();
}
function markRow() {
  const body = by("list").tBodies[0];
  body.querySelector("[aria-current]")?.removeAttribute("aria-current");
  if (state.chosen !== null) body.querySelector(`[data-index="${state.chosen}"]`)?.setAttribute("aria-current", "true");
}

function drawRuns() {
  const flat = (value, path, into) => {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) for (const key of Object.keys(value)) flat(value[key], path ? `${path}.${key}` : key, into);
    else if (path) into.set(path, Array.isArray(value) ? JSON.stringify(value) : String(value));
    return into;
  };
  const sides = data.manifests.map((manifest) => flat(manifest, "", new Map()));
  const keys = [...new Set([...sides[0].keys(), ...sides[1].keys()])];
  const differs = (key) => sides[0].get(key) !== sides[1].get(key);
  // These fields differ between any two runs, so they are not marked.
  const own = new Set(["started", "finished", "process"]);
  const rank = (key) => differs(key) ? (own.has(key) ? 1 : 2) : 0;
  keys.sort((a, b) => rank(b) - rank(a));
  const caption = captioned("The run.json of each side; fields that differ come first");
  if (keys.length === 0) {
    by("runs").replaceChildren(caption, row([element("td", "neither side has a run.json")]));
    return;
  }
  by("runs").replaceChildren(caption, heads(["field", data.names[0], data.names[1]]), ...keys.map((key) => row([
    element("th", (differs(key) ? "≠ " : "") + key, { scope: "row" }),
    element("td", sides[0].get(key) ?? ""),
    element("td", sides[1].get(key) ?? ""),
  ], rank(key) === 2 ? { class: "differs" } : {})));
}
// Draws the records without a partner, by stage: one side does not record the stage, or gives it another name.
function drawCoverage() {
  const rows = data.coverage || [];
  by("coverage").hidden = rows.length === 0;
  by("covered").textContent = data.onlyCommon ? "records without a partner, which were ignored" : "records without a partner";
  by("partners").replaceChildren(captioned("Records without a partner by stage"), heads(["stage", "only in", "records", "extent", "why"]), ...rows.map((line) => row([
    element("th", line.stage, { scope: "row" }),
    ...[line.side, line.records, line.layers, line.note].map((text) => element("td", text ?? "")),
  ])));
}
// Draws the stages that are probably the same under two names, each with a rule for a map file to copy.
function drawSuggestions() {
  const hints = (data.hints || []).map((hint) => element("p", `Hint: ${hint}`));
  by("suggested").replaceChildren(...hints, ...(data.suggestions || []).flatMap((suggestion) => [
    element("p", `Probably the same: ${suggestion.reference} of the reference and ${suggestion.trace} of the trace (${count(suggestion.records, "record", "records")} in the same place, of the same shape). A map file with this rule compares them:`),
    element("pre", suggestion.rule),
  ]));
}
function drawAdaptations() {
  const rows = data.adaptations || [];
  by("alignment").hidden = rows.length === 0;
  by("adapted").replaceChildren(captioned("How records were paired"), heads(["pairs", "what was done", "stages"]), ...rows.map((line) => row(
    [line.pairs, line.text, Object.keys(line.stages).join(", ")].map((text) => element("td", text)),
  )));
}
// The number of pairs with each verdict.
const counts = data.verdicts.map(() => 0);
for (const pair of data.pairs) counts[pair[VERDICT]] += 1;
const counted = (kind) => verdicts.reduce((sum, verdict, at) => sum + (verdict[kind] ? counts[at] : 0), 0);

function reasonOf(alone) {
  const uncompared = counted("uncompared");
  if (data.conclusion !== "not-all-read" && uncompared > 0) return count(uncompared, "pair could not be compared", "pairs could not be compared");
  if (data.conclusion !== "not-all-read" && alone > 0 && !data.onlyCommon) return count(alone, "record has no partner", "records have no partner");
  return "not everything could be read";
}
function drawVerdict() {
  const alone = counted("alone"), partners = count(alone, "record has no partner", "records have no partner");
  const pairs = count(data.compared, "pair", "pairs");
  let text = "Nothing was compared";
  if (first >= 0) text = `First divergence: ${nameOf(data.pairs[first])} ${verdictOf(data.pairs[first]).name}`;
  else if (data.compared > 0 && data.matches) text = `Match: ${pairs}, no divergence`;
  else if (data.compared > 0) text = `No match: no divergence in ${pairs}, but ${reasonOf(alone)}`;
  by("verdict").textContent = text;
  by("verdict").className = data.matches ? "good" : "bad";
  by("alone").hidden = alone === 0;
  by("alone").append(`${partners}. `);
  if (data.coverage && data.coverage.length) by("alone").append(element("a", "Coverage by stage", { href: "#coverage" }));
}
function drawLegend() {
  by("legend").replaceChildren(...verdicts.flatMap((verdict, at) => {
    if (counts[at] === 0) return [];
    const entry = element("span"), sample = element("b", GLYPHS[verdict.name] || "\u00a0");
    [sample.style.background, sample.style.color] = colours(verdict, verdict.name === "within" ? 1e-6 : 1e-1, state.dark);
    entry.append(sample, ` ${verdict.name} ${counts[at]}`);
    return [entry];
  }));
  if (data.smallestTolerance) by("legend").append(element("span", `would match with ${data.smallestTolerance}`));
}
function drawTheme() {
  state.dark = isDark();
  by("theme").textContent = state.dark ? "Light theme" : "Dark theme";
  drawLegend();
  map.draw();
  curve.draw(state.chosen);
}

let typing, applied = null;
function filterAnew() {
  clearTimeout(typing);
  const asked = JSON.stringify([by("filter").value, by("only").value]);
  if (asked === applied) return;
  applied = asked;
  if (!applyFilter()) return;
  state.from = 0;
  settleStep();
  drawSteps();
  drawMap();
  drawList();
  curve.gather();
  curve.draw(state.chosen);
}
function turnPage(direction) {
  state.from = Math.max(0, state.from + direction * LISTED);
  drawList();
}
by("filter").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(filterAnew, PATIENCE); });
by("filter").addEventListener("change", filterAnew);
by("only").addEventListener("input", filterAnew);
by("controls").addEventListener("submit", (event) => { event.preventDefault(); filterAnew(); });
by("step").addEventListener("input", () => { state.step = Number(by("step").value); drawSteps(); drawMap(); });
by("next").addEventListener("click", () => goToDivergence(1));
by("previous").addEventListener("click", () => goToDivergence(-1));
by("earlier").addEventListener("click", () => turnPage(-1));
by("later").addEventListener("click", () => turnPage(1));
document.addEventListener("keydown", (event) => {
  const direction = { n: 1, p: -1 }[event.key];
  if (direction === undefined || event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) return;
  goToDivergence(direction);
});
by("list").addEventListener("click", (event) => {
  const line = event.target.closest("[data-index]");
  if (line !== null) choose(Number(line.dataset.index), true);
});
by("theme").addEventListener("click", () => { document.documentElement.dataset.theme = state.dark ? "light" : "dark"; drawTheme(); });
window.addEventListener("resize", () => curve.draw(state.chosen));
darkAsked.addEventListener("change", drawTheme);

by("names").textContent = `reference ${data.names[0]}\ntrace     ${data.names[1]}`;
by("filter-syntax").append(...data.filterSyntax.split("`").map((text, at) => element(at % 2 === 1 ? "code" : "span", text)));
by("next").disabled = by("previous").disabled = first < 0;
data.verdicts.forEach((verdict, at) => { if (counts[at] > 0) by("only").append(element("option", `${verdict} (${counts[at]})`, { value: verdict })); });
if (data.problems.length) by("problems").append(element("pre", data.problems.slice(0, 50).join("\n"), { class: "bad" }));
if (first >= 0) state.step = data.pairs[first][STEP];
drawVerdict();
drawCoverage();
drawSuggestions();
drawAdaptations();
drawRuns();
filterAnew();
drawTheme();
if (first >= 0) choose(first, false);
