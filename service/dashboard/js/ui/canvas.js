// A canvas that is crisp on any screen and is painted again only when the data or the size changes.

import { h, setAttr } from "./dom.js";
import { em, font } from "./palette.js";

export class Canvas {
  #painter = null;
  #pending = false;

  /** @param {HTMLElement} host  @param {object} props attributes of the canvas */
  constructor(host, props) {
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
    ctx.font = font();
    ctx.textBaseline = "middle";
    this.#painter(ctx, width, height, em());
  }
}

export function text(ctx, words, x, y, fill, align = "left") {
  ctx.fillStyle = fill;
  ctx.textAlign = align;
  ctx.fillText(words, x, y);
}
