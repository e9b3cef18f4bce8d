// The base of the panels whose charts are over a run's volumes: made with the first view, since the axis comes with it.

import { box } from "./chart.js";
import { h, setText } from "./dom.js";
import { INK } from "./palette.js";
import { Panel } from "./panel.js";

/** A panel gives `makeCharts(axis)`, `inputs(view)` (with `view.at`) and `drawCharts(view)`. */
export class ChartPanel extends Panel {
  charts = null;

  build(body) {
    this.instead = body.appendChild(h("p", { class: "instead", hidden: true }));
  }

  draw(view) {
    this.charts ??= this.makeCharts(view.axis);
    this.drawCharts(view);
  }

  /** Words over the charts where there is nothing to draw; "" for none. */
  setInstead(words) {
    setText(this.instead, words);
    this.instead.hidden = words === "";
  }

  /** What the heading has on its right: the volume under the crosshair, or else what is so now. */
  headingOf(view, now) {
    if (!view.run) return "";
    if (view.at !== null) return `${runNote(view)}volume ${view.at}${view.axis.isZoomed ? " · zoomed (0: all)" : ""}`;
    return now ? `${runNote(view)}${now}` : runNote(view).replace(" · ", "");
  }
}

/** "run 2" where the charts show another run than the one that is scanned. */
const runNote = (view) => (view.run.run === view.session.run ? "" : `run ${view.run.run} · `);

/** The x of each volume. */
export const xs = (rows) => rows.map((_, i) => i);

/** A marker where the shown trial's stimulus was on the screen. */
export function markTrial(u, ctx, view) {
  const { run, shown } = view;
  const trial = run && shown && shown.run === run.run ? run.trials[shown.trial] : null;
  if (!trial || !run.trS) return;
  const { x, y, w, h: height } = box(u, trial.onsetS / run.trS, (trial.onsetS + trial.durationS) / run.trS);
  ctx.fillStyle = INK.line;
  if (w > 0) ctx.fillRect(x, y, w, height);
}
