// Small charts on a canvas: crisp on any screen, redrawn only when the data or the size changes.

import { h, setAttr } from "./dom.js";

const root = getComputedStyle(document.documentElement);
const colour = (name) => root.getPropertyValue(`--${name}`).trim();

/** The palette of the style sheet, for canvases. */
export const INK = Object.fromEntries(
  ["bg", "panel", "line", "ink", "dim", "faint", "blue", "green", "violet", "amber", "red"].map((n) => [n, colour(n)]),
);

export class Plot {
  #painter = null;
  #pending = false;

  /** @param {HTMLElement} host  @param {object} props attributes of the canvas */
  constructor(host, props = { role: "img" }) {
    this.canvas = h("canvas", props);
    host.append(this.canvas);
    new ResizeObserver(() => this.#paint()).observe(host);
    this.host = host;
  }

  /** @param {(ctx: CanvasRenderingContext2D, width: number, height: number, em: number) => void} painter */
  draw(painter, label) {
    this.#painter = painter;
    setAttr(this.canvas, "aria-label", label);
    if (this.#pending) return;
    this.#pending = true;
    requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.#pending = false;
    const { clientWidth: width, clientHeight: height } = this.host;
    if (!this.#painter || width === 0 || height === 0) return;
    const dpr = window.devicePixelRatio;
    this.canvas.width = Math.round(width * dpr);
    this.canvas.height = Math.round(height * dpr);
    const ctx = this.canvas.getContext("2d");
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    const em = parseFloat(root.fontSize);
    ctx.font = `${em * 0.8}px ${root.fontFamily}`;
    ctx.textBaseline = "middle";
    ctx.lineJoin = "round";
    this.#painter(ctx, width, height, em);
  }
}

/** The next of 1, 2, 5 × 10^k at or above x. */
export function nice(x) {
  const power = 10 ** Math.floor(Math.log10(x));
  return ([1, 2, 5, 10].find((m) => m * power >= x * 0.999) ?? 10) * power;
}

/** A line through the known values; a missing value is a gap. */
export function trace(ctx, values, x, y, stroke, width = 1.4) {
  ctx.strokeStyle = stroke;
  ctx.lineWidth = width;
  ctx.beginPath();
  let down = false;
  values.forEach((value, i) => {
    if (value === null || value === undefined) {
      down = false;
      return;
    }
    if (down) ctx.lineTo(x(i), y(value));
    else ctx.moveTo(x(i), y(value));
    down = true;
  });
  ctx.stroke();
}

/** A horizontal line; `dash` for what is a limit or a level rather than data. */
export function rule(ctx, x0, x1, y, stroke, dash = []) {
  ctx.save();
  ctx.strokeStyle = stroke;
  ctx.lineWidth = 1;
  ctx.setLineDash(dash);
  ctx.beginPath();
  ctx.moveTo(x0, Math.round(y) + 0.5);
  ctx.lineTo(x1, Math.round(y) + 0.5);
  ctx.stroke();
  ctx.restore();
}

export function text(ctx, words, x, y, fill, align = "left") {
  ctx.fillStyle = fill;
  ctx.textAlign = align;
  ctx.fillText(words, x, y);
}

/** Labels at a line's end, pushed apart so that none covers another; `labels` are {y, words, fill}. */
export function endLabels(ctx, labels, x, top, bottom, step) {
  const placed = labels.map((label) => ({ ...label })).sort((a, b) => a.y - b.y);
  let floor = top + step / 2;
  for (const label of placed) {
    label.y = Math.max(label.y, floor);
    floor = label.y + step;
  }
  let ceiling = bottom - step / 2;
  for (const label of placed.reverse()) {
    label.y = Math.min(label.y, ceiling);
    ceiling = label.y - step;
    text(ctx, label.words, x, label.y, label.fill);
  }
}

/** Diagonal hatching of a box: a second cue besides colour. */
export function hatch(ctx, x, y, w, height, stroke, step = 5) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(x, y, w, height);
  ctx.clip();
  ctx.strokeStyle = stroke;
  ctx.lineWidth = 1.2;
  ctx.beginPath();
  for (let at = x - height; at < x + w; at += step) {
    ctx.moveTo(at, y + height);
    ctx.lineTo(at + height, y);
  }
  ctx.stroke();
  ctx.restore();
}
