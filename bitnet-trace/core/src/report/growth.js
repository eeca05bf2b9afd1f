"use strict";
// The growth of the error over execution order, on a logarithmic scale: of each point the largest error, of pairs
// that diverge and of those that do not.
/* exported GrowthCurve */

const GROWTH = { left: 46, right: 9, top: 10, bottom: 10, zero: 16, large: 5, small: 3, lowest: -10, highest: 1 };
const LINES = [[0, "0"], [1e-10, "1e-10"], [1e-8, "1e-8"], [1e-6, "1e-6"], [1e-4, "1e-4"], [1e-2, "1e-2"], [1, "1"]];
// How far from a drawn pair the mouse may be.
const NEAR = 12;

class GrowthCurve {
  // `error(index)`, `diverges(index)`, `wanted(index)` and `name(index)` are asked of every one of `count` pairs;
  // an error of null is not drawn. `choose(index)` is called for the pair that is clicked.
  constructor(canvas, pairs) {
    Object.assign(this, { canvas, pairs, points: 0, good: [], bad: [] });
    canvas.addEventListener("click", (event) => {
      const index = this.at(event);
      if (index >= 0) pairs.choose(index);
    });
    canvas.addEventListener("mousemove", (event) => {
      const index = this.at(event);
      canvas.title = index < 0 ? "" : pairs.name(index);
    });
  }

  place(index) { return Math.round((this.points - 1) * index / Math.max(1, this.pairs.count - 1)); }

  // Looks at every pair: when the filter or the width has changed.
  gather() {
    const { pairs, canvas } = this;
    this.points = Math.max(1, canvas.clientWidth - GROWTH.left - GROWTH.right);
    this.good = new Array(this.points).fill(-1);
    this.bad = new Array(this.points).fill(-1);
    let most = -1;
    for (let index = 0; index < pairs.count; index += 1) {
      const error = pairs.error(index);
      if (error === null || !pairs.wanted(index)) continue;
      const points = pairs.diverges(index) ? this.bad : this.good, at = this.place(index);
      if (points[at] < 0 || pairs.error(points[at]) < error) points[at] = index;
      if (most < 0 || pairs.error(most) < error) most = index;
    }
    const largest = most < 0 ? "No pair has an error in numbers." : pairs.error(most) === 0 ? "No error." : `The largest: ${pairs.name(most)}.`;
    canvas.setAttribute("aria-label", `Relative L2 error over execution order, logarithmic. ${largest}`);
  }

  // Draws what was gathered, and a line at the chosen pair.
  draw(chosen) {
    const { canvas, pairs } = this, ratio = window.devicePixelRatio || 1, across = canvas.clientWidth, down = canvas.clientHeight;
    const { left, right, top, bottom, zero, lowest, highest } = GROWTH;
    if (this.points !== Math.max(1, across - left - right)) this.gather();
    canvas.width = Math.max(1, Math.round(across * ratio));
    canvas.height = Math.max(1, Math.round(down * ratio));
    const style = getComputedStyle(canvas);
    const [faint, line, good, bad, mark] = ["--faint", "--line", "--good", "--bad", "--mark"].map((name) => style.getPropertyValue(name));
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = "11px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace";
    const height = (error) => {
      // No logarithm leads to 0: it has a line of its own below.
      if (error === 0) return down - bottom;
      const power = Math.min(highest, Math.max(lowest, Math.log10(error)));
      return down - bottom - zero - (down - top - bottom - zero) * (power - lowest) / (highest - lowest);
    };
    for (const [error, text] of LINES) {
      const y = Math.round(height(error));
      pen.fillStyle = faint;
      pen.fillText(text, 4, y + 4);
      pen.fillStyle = line;
      pen.fillRect(left, y, across - left, 1);
    }
    if (chosen !== null) {
      pen.fillStyle = mark;
      pen.fillRect(left + 1 + this.place(chosen), 0, 1, down);
    }
    // Few pairs are drawn larger than many.
    const size = pairs.count * GROWTH.large < this.points ? GROWTH.large : GROWTH.small;
    for (const [indices, colour] of [[this.good, good], [this.bad, bad]]) {
      pen.fillStyle = colour;
      indices.forEach((index, at) => {
        if (index >= 0) pen.fillRect(left + at + 1 - Math.floor(size / 2), height(pairs.error(index)) - size / 2, size, size);
      });
    }
  }

  // The pair drawn nearest to the mouse; -1 where none is near. One that diverges takes precedence.
  at(event) {
    const at = Math.round(event.offsetX - GROWTH.left - 1);
    for (let away = 0; away < NEAR; away += 1) {
      for (const points of [this.bad, this.good]) {
        for (const point of [at - away, at + away]) if (points[point] >= 0) return points[point];
      }
    }
    return -1;
  }
}
