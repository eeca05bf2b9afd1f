"use strict";
// The map of pairs: a grid of rows and columns of any size, of which a canvas shows what is in view. To the
// keyboard and to screen readers it is one grid whose active cell is an element.
/* exported PairMap */

const CELL = { height: 21, narrow: 30, wide: 62, head: 22, gap: 1 };
const MAP_FONT = "11px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace";
// Columns from this width on have room for the error beside the sign of the verdict.
const ROOMY = 52;

class PairMap {
  // `look(index)` gives the `{ fill, ink, text, more, dim, first }` of a pair, `name(index)` its description,
  // `choose(index)` is called for the pair that the reader goes to.
  constructor(root, { look, name, choose }) {
    Object.assign(this, { root, look, name, choose, rows: [], columns: [], cells: new Map(), cursor: null, turn: 0, waiting: false });
    this.extent = root.querySelector(".extent");
    this.canvas = root.querySelector("canvas");
    this.pen = this.canvas.getContext("2d");
    root.addEventListener("scroll", () => this.draw());
    root.addEventListener("focus", () => this.draw());
    root.addEventListener("blur", () => this.draw());
    root.addEventListener("keydown", (event) => this.pressed(event));
    root.addEventListener("click", (event) => {
      const index = this.at(event);
      if (index !== undefined) this.choose(index);
    });
    root.addEventListener("mousemove", (event) => {
      const index = this.at(event);
      this.canvas.title = index === undefined ? "" : this.name(index);
      this.canvas.style.cursor = index === undefined ? "" : "pointer";
    });
    new ResizeObserver(() => this.measure()).observe(root);
  }

  // `rows` and `columns` are texts; `cells` are the pairs by `row * columns.length + column`.
  show(rows, columns, cells) {
    Object.assign(this, { rows, columns, cells, cursor: null });
    this.root.setAttribute("aria-rowcount", rows.length + 1);
    this.root.setAttribute("aria-colcount", columns.length + 1);
    this.root.removeAttribute("aria-activedescendant");
    this.root.querySelector(".active")?.remove();
    this.root.scrollTo(0, 0);
    this.measure();
  }

  measure() {
    const { root, pen, rows, columns } = this;
    const longest = (texts) => texts.reduce((most, text) => Math.max(most, text.length), 0);
    pen.font = MAP_FONT;
    const letter = pen.measureText("m").width;
    this.label = Math.min(Math.ceil(letter * Math.max(longest(rows), "layer".length)) + 14, Math.max(90, Math.floor(root.clientWidth * 0.4)));
    const narrow = Math.max(CELL.narrow, Math.ceil(letter * longest(columns)) + 6);
    const even = Math.floor((root.clientWidth - this.label) / Math.max(1, columns.length));
    this.width = Math.max(narrow, Math.min(CELL.wide, even));
    this.extent.style.width = `${this.label + columns.length * this.width}px`;
    this.extent.style.height = `${CELL.head + rows.length * CELL.height}px`;
    this.placeActive();
    this.draw();
  }

  cell(x, y) { return this.cells.get(y * this.columns.length + x); }

  // The pair under the mouse.
  at(event) {
    const box = this.root.getBoundingClientRect();
    const left = event.clientX - box.left - this.root.clientLeft, top = event.clientY - box.top - this.root.clientTop;
    if (left < this.label || top < CELL.head) return undefined;
    const x = Math.floor((left - this.label + this.root.scrollLeft) / this.width), y = Math.floor((top - CELL.head + this.root.scrollTop) / CELL.height);
    return x < this.columns.length && y < this.rows.length ? this.cell(x, y) : undefined;
  }

  // Makes the cell the active one, and brings it into view.
  select(x, y, index) {
    this.cursor = { x, y, index };
    const { root } = this, left = x * this.width, top = y * CELL.height;
    const across = root.clientWidth - this.label, down = root.clientHeight - CELL.head;
    if (left < root.scrollLeft) root.scrollLeft = left;
    else if (left + this.width > root.scrollLeft + across) root.scrollLeft = left + this.width - across;
    if (top < root.scrollTop) root.scrollTop = top;
    else if (top + CELL.height > root.scrollTop + down) root.scrollTop = top + CELL.height - down;
    this.announce();
    this.draw();
  }

  // The active cell as elements: its id changes with every move, so that screen readers say it.
  announce() {
    const { x, y, index } = this.cursor, part = (role, column, text) => {
      const made = document.createElement("span");
      made.setAttribute("role", role);
      made.setAttribute("aria-colindex", column);
      made.textContent = text;
      return made;
    };
    this.turn = 1 - this.turn;
    const row = document.createElement("div"), cell = part("gridcell", x + 2, this.name(index));
    row.className = "active";
    row.setAttribute("role", "row");
    row.setAttribute("aria-rowindex", y + 2);
    cell.id = `cell-${this.turn}`;
    cell.setAttribute("aria-selected", "true");
    row.append(part("rowheader", 1, this.rows[y]), cell);
    this.root.querySelector(".active")?.remove();
    this.extent.append(row);
    this.root.setAttribute("aria-activedescendant", cell.id);
    this.placeActive();
  }

  placeActive() {
    const row = this.root.querySelector(".active");
    if (row === null || this.cursor === null) return;
    const { x, y } = this.cursor;
    Object.assign(row.style, { left: `${this.label + x * this.width}px`, top: `${CELL.head + y * CELL.height}px`, width: `${this.width}px`, height: `${CELL.height}px` });
  }

  pressed(event) {
    if (event.altKey || event.metaKey) return;
    const there = this.cursor === null ? this.along(-1, 0, 1, 0) ?? this.beside(0, -1, 0, 1) : this.target(event);
    const known = /^(Arrow(Left|Right|Up|Down)|Home|End|Page(Up|Down))$/.test(event.key);
    if (!known) return;
    event.preventDefault();
    if (there) this.choose(this.cell(there.x, there.y));
  }

  target(event) {
    const { x, y } = this.cursor, lastColumn = this.columns.length - 1, lastRow = this.rows.length - 1;
    const page = Math.max(1, Math.floor((this.root.clientHeight - CELL.head) / CELL.height) - 1);
    switch (event.key) {
      case "ArrowLeft": return this.along(x, y, -1, 0) ?? this.beside(x, y, -1, 0);
      case "ArrowRight": return this.along(x, y, 1, 0) ?? this.beside(x, y, 1, 0);
      case "ArrowUp": return this.along(x, y, 0, -1) ?? this.beside(x, y, 0, -1);
      case "ArrowDown": return this.along(x, y, 0, 1) ?? this.beside(x, y, 0, 1);
      case "PageUp": return this.beside(x, Math.max(0, y - page) + 1, 0, -1);
      case "PageDown": return this.beside(x, Math.min(lastRow, y + page) - 1, 0, 1);
      case "Home": return event.ctrlKey ? this.along(-1, 0, 1, 0) : this.along(-1, y, 1, 0);
      case "End": return event.ctrlKey ? this.along(lastColumn + 1, lastRow, -1, 0) : this.along(lastColumn + 1, y, -1, 0);
      default: return undefined;
    }
  }

  inside(x, y) { return x >= 0 && y >= 0 && x < this.columns.length && y < this.rows.length; }

  // The next cell in a straight line.
  along(x, y, right, down) {
    for (let a = x + right, b = y + down; this.inside(a, b); a += right, b += down) if (this.cell(a, b) !== undefined) return { x: a, y: b };
    return undefined;
  }

  // The nearest cell of the neighbouring row or column: where the line has no more cells, those beside it do.
  beside(x, y, right, down) {
    const a = x + right, b = y + down, across = down === 0 ? this.rows.length : this.columns.length;
    for (let away = 0; away < across; away += 1) {
      for (const side of [away, -away]) {
        const [p, q] = down === 0 ? [a, b + side] : [a + side, b];
        if (this.inside(p, q) && this.cell(p, q) !== undefined) return { x: p, y: q };
      }
    }
    return undefined;
  }

  // Draws with the next frame, once for all that asked.
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }

  paint() {
    const { root, canvas, pen, label, width } = this, ratio = window.devicePixelRatio || 1;
    const across = root.clientWidth, down = Math.min(root.clientHeight, this.extent.offsetHeight);
    const style = getComputedStyle(root), back = style.getPropertyValue("--back"), front = style.getPropertyValue("--front");
    const [faint, line, mark, bad] = ["--faint", "--line", "--mark", "--bad"].map((name) => style.getPropertyValue(name));
    if (canvas.width !== Math.round(across * ratio) || canvas.height !== Math.round(down * ratio)) {
      canvas.width = Math.round(across * ratio);
      canvas.height = Math.round(down * ratio);
      Object.assign(canvas.style, { width: `${across}px`, height: `${down}px` });
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = back;
    pen.fillRect(0, 0, across, down);
    Object.assign(pen, { font: MAP_FONT, textBaseline: "middle", textAlign: "center", lineWidth: 1 });
    const { scrollLeft, scrollTop } = root, roomy = width >= ROOMY;
    const firstX = Math.floor(scrollLeft / width), lastX = Math.min(this.columns.length - 1, Math.floor((scrollLeft + across - label) / width));
    const firstY = Math.floor(scrollTop / CELL.height), lastY = Math.min(this.rows.length - 1, Math.floor((scrollTop + down - CELL.head) / CELL.height));
    const place = (x, y) => [label + x * width - scrollLeft, CELL.head + y * CELL.height - scrollTop, width - CELL.gap, CELL.height - CELL.gap];
    pen.save();
    pen.beginPath();
    pen.rect(label, CELL.head, across - label, down - CELL.head);
    pen.clip();
    for (let y = firstY; y <= lastY; y += 1) {
      for (let x = firstX; x <= lastX; x += 1) {
        const index = this.cell(x, y);
        if (index === undefined) continue;
        const { fill, ink, text, more, dim, first } = this.look(index), [left, top, wide, high] = place(x, y);
        if (dim) {
          pen.strokeStyle = line;
          pen.strokeRect(left + 0.5, top + 0.5, wide - 1, high - 1);
        } else {
          pen.fillStyle = fill;
          pen.fillRect(left, top, wide, high);
          pen.fillStyle = ink;
          if (text || roomy && more) pen.fillText(roomy && more ? `${text} ${more}` : text, left + wide / 2, top + high / 2 + 1);
        }
        if (first) this.frame(place(x, y), bad, back);
      }
    }
    // A double frame, which is seen on every colour; thicker while the map has the focus.
    if (this.cursor !== null) this.frame(place(this.cursor.x, this.cursor.y), mark, back, root.matches(":focus-visible"));
    pen.restore();
    this.labels(pen, { firstX, lastX, firstY, lastY, place, across, down, front, faint, line, mark });
  }

  frame([left, top, wide, high], colour, back, strong = false) {
    const { pen } = this, thick = strong ? 3 : 2;
    pen.lineWidth = thick;
    pen.strokeStyle = colour;
    pen.strokeRect(left + thick / 2, top + thick / 2, wide - thick, high - thick);
    pen.lineWidth = 1;
    pen.strokeStyle = back;
    pen.strokeRect(left + thick + 0.5, top + thick + 0.5, wide - 2 * thick - 1, high - 2 * thick - 1);
  }

  labels(pen, { firstX, lastX, firstY, lastY, place, across, down, front, faint, line, mark }) {
    const { label, cursor } = this;
    pen.save();
    pen.beginPath();
    pen.rect(label, 0, across - label, CELL.head);
    pen.clip();
    pen.textAlign = "center";
    for (let x = firstX; x <= lastX; x += 1) {
      const [left, , wide] = place(x, 0);
      pen.fillStyle = cursor?.x === x ? mark : front;
      pen.fillText(this.columns[x], left + wide / 2, CELL.head / 2);
    }
    pen.restore();
    pen.save();
    pen.beginPath();
    pen.rect(0, CELL.head, label, down - CELL.head);
    pen.clip();
    pen.textAlign = "right";
    const letter = pen.measureText("m").width, most = Math.max(4, Math.floor((label - 12) / letter));
    for (let y = firstY; y <= lastY; y += 1) {
      const [, top, , high] = place(0, y), text = this.rows[y];
      pen.fillStyle = cursor?.y === y ? mark : front;
      pen.fillText(text.length > most ? `${text.slice(0, most - 1)}…` : text, label - 7, top + high / 2 + 1);
    }
    pen.restore();
    pen.fillStyle = faint;
    pen.textAlign = "right";
    pen.fillText("layer", label - 7, CELL.head / 2);
    pen.fillStyle = line;
    pen.fillRect(0, CELL.head - 1, across, 1);
    pen.fillRect(label - 2, 0, 1, down);
  }
}
