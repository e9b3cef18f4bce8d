// A chart of uPlot with its figures beside it: a list of what each line is (its dashes, its name) and its value, which is
// the newest one, or the one under the crosshair. Knows nothing of sessions.

import uPlot from "../../vendor/uplot/uPlot.esm.js";
import { h, setAttr, setText } from "./dom.js";
import { INK, em, font } from "./palette.js";

const LEFT_EM = 2.9; // of every chart, so that a volume has the same place in each

/** Lines are told apart by their dashes, as a black-and-white print must be. */
export const DASHES = { solid: [], dashed: [6, 3], dotted: [1.5, 3] };

/**
 * @typedef {{name: string, stroke: string, dash?: "solid"|"dashed"|"dotted", width?: number, fill?: string, paths?: Function,
 *   hidden?: boolean}} Line `hidden`: not in the list
 */
export class Chart {
  #plot = null;
  #data = [[]];
  #limits = [0, 1];
  #range = [0, 1];
  #marks = () => {};
  #over = () => {};

  /**
   * @param {HTMLElement} host
   * @param {{lines: Line[], caption: string, axis?: object, levels?: Function, bands?: object[], numbered?: boolean,
   *   hovered?: (at: ?number) => void}} options
   *   axis: the shared axis, see VolumeAxis; levels(limits): where the left axis has figures; numbered: x has figures
   */
  constructor(host, options) {
    this.options = options;
    this.values = options.lines.map(() => h("span", { class: "value" }));
    this.caption = h("span", { class: "caption", text: options.caption });
    const rows = options.lines.map((line, i) =>
      line.hidden ? "" : h("li", {}, h("i", { class: `dash ${line.dash ?? "solid"}`, "data-line": line.name }),
        h("span", { class: "name", text: line.name }), this.values[i]));
    this.more = h("ul", { class: "more" });
    this.canvas = h("div", { class: "plot", role: "img" });
    this.el = h("div", { class: "chart" }, this.canvas,
      h("div", { class: "readings" }, this.caption, h("ul", {}, ...rows), this.more));
    host.append(this.el);
    options.lines.forEach((line, i) => {
      const swatch = rows[i] && rows[i].firstChild;
      if (swatch) swatch.style.color = line.stroke;
    });
    options.axis?.add(this);
    this.observer = new ResizeObserver(() => this.#resize());
    this.observer.observe(this.canvas);
  }

  destroy() {
    this.observer.disconnect();
    this.#plot?.destroy();
    this.#plot = null;
  }

  /**
   * @param {{data: Array[], limits: [number, number], label: string, range?: [number, number], under?: Function,
   *   over?: Function}} drawn data: x, then a column for each line; under, over: paint (u, ctx) below and above the lines
   */
  draw({ data, limits, label, range, under = () => {}, over = () => {} }) {
    [this.#data, this.#limits, this.#marks, this.#over] = [data, limits, under, over];
    this.#range = range ?? this.#range;
    setAttr(this.canvas, "aria-label", label);
    if (!this.#plot) return this.#resize();
    this.#plot.batch(() => {
      this.#plot.setData(data, false);
      this.rescale();
    });
  }

  /** Shows the axis's part of the data. */
  rescale() {
    if (!this.#plot) return;
    const [min, max] = this.options.axis?.range ?? this.#range;
    this.#plot.setScale("x", { min, max });
  }

  /** Puts the crosshair at a place of the data. */
  point(at) {
    const u = this.#plot;
    if (u) u.setCursor({ left: u.valToPos(u.data[0][at] ?? at, "x"), top: u.over.clientHeight / 2 }, false);
  }

  /** One value's text; null has none. */
  setValue(line, text) {
    setText(this.values[line], text);
    setAttr(this.values[line], "title", text);
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (width === 0 || height === 0) return;
    if (this.#plot && this.em === em()) return this.#plot.setSize({ width, height });
    this.#plot?.destroy(); // the letters have another size
    this.em = em();
    this.#plot = new uPlot(this.#configure(width, height), this.#data, this.canvas);
    this.rescale();
  }

  #configure(width, height) {
    const { lines, axis, numbered = false, bands = [] } = this.options;
    const grid = { stroke: INK.line, width: 1 };
    const levels = this.options.levels ?? (([low, high]) => [low, high]);
    return {
      width, height, bands,
      padding: [em() * 0.55, em() * (axis ? 1.2 : 0.2), numbered ? 0 : em() * 0.55, 0],
      legend: { show: false },
      scales: { x: { time: false }, y: { range: () => this.#limits } },
      axes: [
        { show: numbered, size: em() * 1.3, gap: 2, font: font(), stroke: INK.faint, grid: { show: false }, ticks: { show: false },
          space: em() * 4, values: (_, splits) => splits.map((at) => (Number.isInteger(at) ? String(at) : "")) },
        { size: em() * LEFT_EM, gap: 4, font: font(), stroke: INK.faint, grid, ticks: { show: false },
          splits: () => levels(this.#limits), values: (_, splits) => splits.map(figure) },
      ],
      cursor: {
        y: false,
        points: { show: false },
        drag: { x: Boolean(axis), y: false, setScale: false },
        ...(axis && { sync: { key: axis.key, scales: ["x", null], filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } } }),
        bind: { dblclick: () => () => axis?.zoom(null) },
      },
      series: [{}, ...lines.map(({ stroke, dash = "solid", width: thick = 1.4, fill, paths }) =>
        ({ stroke, dash: DASHES[dash], width: thick, fill, paths, points: { show: false }, spanGaps: false }))],
      hooks: {
        drawClear: [(u) => this.#marks(u, u.ctx)],
        draw: [(u) => this.#over(u, u.ctx)],
        ready: [(u) => this.#listen(u)],
        setSelect: [(u) => this.#selected(u)],
      },
    };
  }

  /** The mouse alone says which place is looked at: the crosshair moves for other reasons, too. */
  #listen(u) {
    const { axis, hovered = () => {} } = this.options;
    const report = (at) => (axis ? axis.hover(at) : hovered(at));
    u.over.addEventListener("mousemove", (event) => {
      const { left } = u.over.getBoundingClientRect();
      report(u.data[0].length ? u.posToIdx(event.clientX - left) : null);
    });
    u.over.addEventListener("mouseleave", () => report(null));
  }

  #selected(u) {
    const { left, width } = u.select;
    if (width < 3) return;
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.options.axis?.zoom([u.posToVal(left, "x"), u.posToVal(left + width, "x")]);
  }
}

/** A level as short as it can be, with a true minus sign. */
const figure = (x) => String(Number(x.toPrecision(3))).replace("-", "\u2212");

/** The next of 1, 2, 5 × 10^k at or above x. */
export function nice(x) {
  const power = 10 ** Math.floor(Math.log10(x));
  return ([1, 2, 5, 10].find((m) => m * power >= x * 0.999) ?? 10) * power;
}

/** A horizontal line across a chart, dashed: a limit or a level rather than data. */
export function rule(u, ctx, level, stroke) {
  const { left, width } = u.bbox;
  const y = Math.round(u.valToPos(level, "y", true)) + 0.5;
  ctx.save();
  ctx.strokeStyle = stroke;
  ctx.lineWidth = uPlot.pxRatio;
  ctx.setLineDash([4, 4]);
  ctx.beginPath();
  ctx.moveTo(left, y);
  ctx.lineTo(left + width, y);
  ctx.stroke();
  ctx.restore();
}

/** A box from x to x over the height of a chart; the painter gets it in the canvas's own pixels. */
export function box(u, from, to, least = 2) {
  const { left, top, width, height } = u.bbox;
  const x0 = Math.max(left, u.valToPos(from, "x", true));
  const x1 = Math.min(left + width, Math.max(x0 + least, u.valToPos(to, "x", true)));
  return { x: x0, y: top, w: x1 - x0, h: height };
}

/** Diagonal hatching of a box: a second cue besides colour. */
export function hatch(ctx, { x, y, w, h: height }, stroke) {
  if (w <= 0) return;
  ctx.save();
  ctx.beginPath();
  ctx.rect(x, y, w, height);
  ctx.clip();
  ctx.strokeStyle = stroke;
  ctx.lineWidth = 1.2 * uPlot.pxRatio;
  ctx.beginPath();
  for (let at = x - height; at < x + w; at += 4 * uPlot.pxRatio) {
    ctx.moveTo(at, y + height);
    ctx.lineTo(at + height, y);
  }
  ctx.stroke();
  ctx.restore();
}

/** Bars as wide as a volume, from its own place to the next one's. */
export const bars = uPlot.paths.bars({ size: [0.85, Infinity, 1], align: 1 });
