// What the charts over a run's volumes share: their x axis, and the marker of the trial shown.

import { INK, text } from "./plot.js";

/** How many volumes the x axis holds: the run's own number, or room that grows in steps of 50. */
function span(run) {
  return run.nVolumes ?? Math.max(50, Math.ceil(run.volumes.length / 50) * 50);
}

/** The x axis of every chart, so that a volume has the same place in each: {left, right} in pixels, x of a volume. */
export function volumeAxis(run, w, em) {
  const [left, right] = [em * 2.7, w - em * 5.6];
  const volumes = run ? span(run) : 1;
  return { left, right, x: (i) => left + (i / volumes) * (right - left) };
}

/** A marker where the shown trial's stimulus was on the screen. */
export function markTrial(ctx, view, run, x, top, bottom) {
  const trial = view.shown && view.shown.run === run.run ? run.trials[view.shown.trial] : null;
  if (!trial || !run.trS) return;
  const from = x(trial.onsetS / run.trS);
  const to = x((trial.onsetS + trial.durationS) / run.trS);
  ctx.fillStyle = INK.line;
  ctx.fillRect(from, top, Math.max(2, to - from), bottom - top);
}

/** First and last volume under the axis. */
export function nameVolumes(ctx, run, left, right, y) {
  text(ctx, "0", left, y, INK.faint);
  text(ctx, `volume ${span(run)}`, right, y, INK.faint, "right");
}

/** "run 2" where the charts show another run than the one that is scanned. */
export const runNote = (view, run) => (run.run === view.session.run ? "" : `run ${run.run} · `);
