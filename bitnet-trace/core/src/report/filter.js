"use strict";
// The filter language of the command: `stage=attn_*,layer=0-3;stage=logits`. The command implements it in Rust, for
// `BITNET_TRACE_FILTER`. The cases in filter_cases.json are tested against both, so that they give the same answers and
// errors.
/* exported parseFilter */

const TEXT_KEYS = ["stage", "name", "io"];
const NUMBER_KEYS = ["layer", "seq", "request"];
const IOS = ["in", "out", "let", "weight", "grad"];
// The command's numbers have 64 bits.
const LARGEST = 2n ** 64n - 1n;

// Removes the whitespace that Rust's `str::trim` removes, which is not the set of `String.prototype.trim`.
const trim = (text) => text.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, "");

// A text in quotes, as Rust's `{:?}` formats it.
function quoted(text) {
  const named = { "\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0" };
  const escape = (character) => named[character] ?? (character === " " ? " " : `\\u{${character.codePointAt(0).toString(16)}}`);
  return `"${text.replace(/[\\"\p{C}\p{Z}\p{Grapheme_Extend}]/gu, escape)}"`;
}

// The text before and after the first separator; null if there is no separator.
function splitOnce(text, separator) {
  const at = text.indexOf(separator);
  return at < 0 ? null : [text.slice(0, at), text.slice(at + separator.length)];
}

// Whether a glob matches a whole text: `*` is any characters, `?` is one character.
function globMatches(glob, text) {
  const width = (string, at) => string.codePointAt(at) > 0xffff ? 2 : 1;
  let inGlob = 0, inText = 0, star = -1, resume = 0;
  while (inText < text.length) {
    if (glob[inGlob] === "*") {
      star = inGlob;
      resume = inText;
      inGlob += 1;
    } else if (inGlob < glob.length && (glob[inGlob] === "?" || glob.codePointAt(inGlob) === text.codePointAt(inText))) {
      inGlob += width(glob, inGlob);
      inText += width(text, inText);
    } else if (star >= 0) {
      // Let the last star match one more character.
      resume += width(text, resume);
      inGlob = star + 1;
      inText = resume;
    } else {
      return false;
    }
  }
  while (glob[inGlob] === "*") inGlob += 1;
  return inGlob === glob.length;
}

// How similar two texts are, from 0 to 1: Jaro-Winkler as the crate strsim computes it.
function similarity(left, right) {
  const a = [...left], b = [...right];
  if (a.length === 0 || b.length === 0) return a.length === b.length ? 1 : 0;
  const reach = Math.max(Math.floor(Math.max(a.length, b.length) / 2) - 1, 0);
  const taken = new Set(), inA = [];
  a.forEach((character, index) => {
    for (let at = Math.max(index - reach, 0); at < Math.min(index + reach + 1, b.length); at += 1) {
      if (b[at] === character && !taken.has(at)) {
        taken.add(at);
        inA.push(character);
        break;
      }
    }
  });
  const matches = inA.length;
  if (matches === 0) return 0;
  const inB = b.filter((_, index) => taken.has(index));
  const transpositions = Math.floor(inA.filter((character, index) => character !== inB[index]).length / 2);
  const jaro = (matches / a.length + matches / b.length + (matches - transpositions) / matches) / 3;
  const differing = a.slice(0, 4).findIndex((character, index) => character !== b[index]);
  const prefix = differing < 0 ? Math.min(a.length, 4) : differing;
  return jaro > 0.7 ? jaro + 0.1 * prefix * (1 - jaro) : jaro;
}

// Texts less similar than this are not suggested.
const SIMILAR = 0.75;

// The error for a name that is not among the known ones; the last of the most similar ones is suggested.
function unknownName(what, name, known) {
  const nearest = known.reduce((best, other) => (similarity(name, other) >= similarity(name, best) ? other : best));
  const all = known.join(", ");
  return similarity(name, nearest) >= SIMILAR
    ? new Error(`unknown ${what} \`${name}\`, did you mean \`${nearest}\`? Expected one of: ${all}`)
    : new Error(`unknown ${what} \`${name}\`, expected one of: ${all}`);
}

function parseNumber(text) {
  const trimmed = trim(text);
  if (!/^\+?[0-9]+$/.test(trimmed)) return null;
  const number = BigInt(trimmed.replace("+", ""));
  return number <= LARGEST ? number : null;
}

// Parses `3`, `0-3` or `none` into a test of a number.
function parseNumbers(part) {
  const text = trim(part);
  if (text === "none") return (number) => number === null;
  const [first, last] = (splitOnce(text, "-") ?? [text, text]).map(parseNumber);
  if (first === null || last === null) throw new Error(`${quoted(text)} is not a number or a range`);
  if (first > last) throw new Error(`${quoted(text)} ends before it begins`);
  return (number) => number !== null && first <= number && number <= last;
}

// Parses a condition into a test of a record.
function parseCondition(part) {
  const text = trim(part), halves = splitOnce(text, "=");
  if (halves === null) throw new Error(`${quoted(text)} has no \`=\``);
  const negated = halves[0].endsWith("!");
  const key = trim(negated ? halves[0].slice(0, -1) : halves[0]), value = trim(halves[1]);
  if (value === "") throw new Error(`${quoted(text)} has no value`);
  const parts = value.split("|"), globs = parts.map(trim);
  let tests;
  if (TEXT_KEYS.includes(key)) {
    const unknown = key === "io" ? globs.find((glob) => !IOS.some((io) => globMatches(glob, io))) : undefined;
    if (unknown !== undefined) throw unknownName("io", unknown, IOS);
    tests = globs.map((glob) => (found) => globMatches(glob, found ?? ""));
  } else if (NUMBER_KEYS.includes(key)) {
    tests = parts.map(parseNumbers);
  } else {
    throw unknownName("key", key, [...TEXT_KEYS, ...NUMBER_KEYS]);
  }
  // Many records share a stage, a layer and a step, so results are cached.
  const known = new Map();
  return (record) => {
    const found = record[key];
    let holds = known.get(found);
    if (holds === undefined) {
      holds = tests.some((test) => test(found)) !== negated;
      if (key !== "name") known.set(found, holds);
    }
    return holds;
  };
}

// Parses a filter into a test of records `{ stage, name, io, layer, seq, request }`: texts, and numbers (or BigInts)
// that are null if the record has none. Throws an Error that says what is wrong with the text.
function parseFilter(text) {
  const trimmed = trim(text);
  if (trimmed === "" || trimmed === "all") return () => true;
  const clauses = trimmed.split(";").map((clause) => clause.split(",").map(parseCondition));
  return (record) => clauses.some((conditions) => conditions.every((condition) => condition(record)));
}
