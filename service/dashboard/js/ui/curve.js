// The learning curve of a calibration: held-out accuracy with its interval, over trials. Drawn as SVG, with the figures as a table.

import { chance as chanceText } from "../model/format.js";
import { h } from "./dom.js";
import { table } from "./table.js";

const W = 460;
const H = 180;
const LEFT = 42;
const BOTTOM = 28;
const TOP = 10;

function s(tag, props = {}, ...children) {
  const el = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) el.setAttribute(name, value);
  el.append(...children);
  return el;
}

/** @param {{n_trials: number, n_runs: number, accuracy: number, low: number, high: number, n: number, chance: number, minutes: ?number}[]} points */
export function learningCurve(points) {
  if (!points.length) return h("p", { class: "caption", text: "A point for each version: none yet." });
  const most = Math.max(...points.map((p) => p.n_trials));
  const x = (p) => LEFT + (W - LEFT - 12) * (p.n_trials / most);
  const y = (v) => TOP + (H - TOP - BOTTOM) * (1 - v);
  const last = points.at(-1);
  const grid = [0, 0.5, 1].flatMap((v) => [s("line", { x1: LEFT, x2: W, y1: y(v), y2: y(v), class: "grid" }),
    s("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, v.toFixed(1))]);
  const bars = points.map((p) => s("line", { x1: x(p), x2: x(p), y1: y(p.low), y2: y(p.high), class: "interval" }));
  const line = s("polyline", { points: points.map((p) => `${x(p)},${y(p.accuracy)}`).join(" "), class: "curve" });
  const dots = points.map((p) => s("circle", { cx: x(p), cy: y(p.accuracy), r: 3.5, class: "dot" }));
  const level = s("line", { x1: LEFT, x2: W, y1: y(last.chance), y2: y(last.chance), class: "chance" });
  const axis = s("text", { x: W, y: H - 6, "text-anchor": "end" }, `trials, up to ${most}`);
  const figure = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `held-out accuracy ${last.accuracy.toFixed(2)} after ${last.n_trials} trials` },
    ...grid, level, ...bars, line, ...dots, axis);
  const rows = points.map((p) => [String(p.n_runs), String(p.n_trials), p.minutes == null ? "–" : p.minutes.toFixed(1),
    `${p.accuracy.toFixed(2)} [${p.low.toFixed(2)}, ${p.high.toFixed(2)}]`, String(p.n), chanceText(p.chance)]);
  return h("figure", { class: "learning" }, figure, table("learning curve", ["Runs", "Trials", "Minutes", "Accuracy, 95 %", "n", "Chance"], rows));
}

/** Gradient steps: the loss of held-out images, which decides when they stop. Nothing without any.
 *  @param {{steps: number, loss: ?number}[]} looks */
export function tuningCurve(looks) {
  const finite = looks.filter((look) => look.loss != null);
  if (!finite.length) return "";
  const losses = finite.map((look) => look.loss);
  const low = Math.min(...losses);
  const high = Math.max(...losses, low + 1e-3);
  const most = Math.max(...finite.map((look) => look.steps), 1);
  const best = finite.find((look) => look.loss === low);
  const x = (look) => LEFT + (W - LEFT - 12) * (look.steps / most);
  const y = (loss) => TOP + (H - TOP - BOTTOM) * (1 - (loss - low) / (high - low));
  const grid = [low, high].flatMap((v) => [s("line", { x1: LEFT, x2: W, y1: y(v), y2: y(v), class: "grid" }),
    s("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, v.toFixed(2))]);
  const line = s("polyline", { points: finite.map((look) => `${x(look)},${y(look.loss)}`).join(" "), class: "curve" });
  const dots = finite.map((look) => s("circle", { cx: x(look), cy: y(look.loss), r: look === best ? 5 : 3, class: "dot" }));
  const axis = s("text", { x: W, y: H - 6, "text-anchor": "end" }, `gradient steps, up to ${most}`);
  const text = `Loss of held-out images (mean −log probability of what was shown): lowest, ${low.toFixed(3)}, after ${best.steps} gradient steps`;
  const figure = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": text }, ...grid, line, ...dots, axis);
  return h("figure", { class: "learning tuning" }, figure, h("figcaption", { class: "caption", text: `${text}.` }));
}
