// What the page computes from a session's state: quantiles, accuracy, the state of a trial. Pure.

export const STAGES = ["fast", "revised", "final"];
export const VERSIONS = ["preview", "full", "refined"]; // of one reconstruction, each better than the one before
export const WINDOW = 50;
const Z95 = 1.959963984540054;

/** The q-quantile with linear interpolation (NumPy's default), or null of nothing. */
export function quantile(values, q) {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

/** Wilson's 95 % score interval of k successes in n (Wilson 1927, JASA 22:209). */
export function wilson(k, n) {
  if (n === 0) return [0, 1];
  const p = k / n;
  const z2 = Z95 * Z95;
  const centre = (p + z2 / (2 * n)) / (1 + z2 / n);
  const half = (Z95 / (1 + z2 / n)) * Math.sqrt((p * (1 - p)) / n + z2 / (4 * n * n));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

/** Every trial of the session in the order of the experiment. */
export function allTrials(session) {
  const runs = Object.values(session.runs).sort((a, b) => a.run - b.run);
  return runs.flatMap((run) => Object.values(run.trials).sort((a, b) => a.trial - b.trial));
}

/** The latest stage at which a trial has a result, or null. */
export function stageOf(trial) {
  return STAGES.findLast((stage) => trial.stages[stage]?.result) ?? null;
}

/** The result that counts: the furthest stage's. */
export function resultOf(trial) {
  const stage = stageOf(trial);
  return stage && trial.stages[stage].result;
}

/** The result before that of a stage, for what a revision changed. */
export function earlierResult(trial, stage) {
  const before = STAGES.slice(0, STAGES.indexOf(stage)).findLast((s) => trial.stages[s]?.result);
  return before ? trial.stages[before].result : null;
}

/** The newest reconstruction of a trial; its stage may be behind the newest result's. */
export function reconstructionOf(trial) {
  const stage = STAGES.findLast((s) => trial.stages[s]?.reconstruction);
  return stage ? trial.stages[stage].reconstruction : null;
}

/** Of two versions of one reconstruction (the first may be null) the one that counts. */
export function laterVersion(a, b) {
  const rank = (made) => VERSIONS.indexOf(made.version ?? "full");
  return a === null || rank(b) >= rank(a) ? b : a;
}

/** Why the newest stage of a trial has no reconstruction, or null. */
export const skippedOf = (trial) => trial.stages[stageOf(trial)]?.skipped ?? null;

/** The fit of a reconstruction, or null until this very image is measured. */
export function fitOf(trial, made) {
  const fit = trial.stages[made.stage].fit ?? null;
  return fit?.image === made.image ? fit : null;
}

/** The caption of a reconstruction: made from the same tokens, so only that of its own stage counts. */
export const captionOf = (trial, made) => trial.stages[made.stage].caption ?? null;

export const truthKnown = (trial) => trial.candidate !== null || trial.label !== null;

/** Whether a candidate is the image shown: true, false, or null if the truth is unknown here. */
export function isTruth(trial, candidate) {
  if (trial.candidate !== null) return candidate.id === trial.candidate;
  if (trial.label !== null) return (candidate.label ?? candidate.id) === trial.label;
  return null;
}

/** Whether the first candidate of the newest result is the image shown. */
export function hit(trial) {
  const result = resultOf(trial);
  return result && result.candidates.length > 0 ? isTruth(trial, result.candidates[0]) : null;
}

/** Seconds of scanning since the run began. */
export const scanTime = (run) => run.volumes.length * (run.trS ?? 0);

/** What a trial stands at: planned, waiting, fast, revised, final, or undecoded once no result can follow. */
export function trialState(session, trial) {
  const stage = stageOf(trial);
  if (stage) return stage;
  if (session.closedT !== null) return "undecoded";
  const run = session.runs[trial.run];
  return scanTime(run) > trial.onsetS ? "waiting" : "planned";
}

/**
 * Top-1 over the last WINDOW decoded trials, at each decoded trial whose truth is known.
 * @returns {{trial: object, n: number, p: number, low: number, high: number}[]}
 */
export function rollingAccuracy(session) {
  const hits = [];
  const series = [];
  for (const trial of allTrials(session)) {
    const h = hit(trial);
    if (h === null) continue;
    hits.push(h ? 1 : 0);
    const window = hits.slice(-WINDOW);
    const k = window.reduce((sum, x) => sum + x, 0);
    const [low, high] = wilson(k, window.length);
    series.push({ trial, n: window.length, p: k / window.length, low, high });
  }
  return series;
}

/** WAITING, LIVE, CLOSED or ARCHIVED. */
export function sessionState(session) {
  if (session.archive) return "ARCHIVED";
  if (session.closedT !== null) return "CLOSED";
  const run = session.runs[session.run];
  return run && !run.ended && run.volumes.length > 0 ? "LIVE" : "WAITING";
}

/** Trials are known, but none of them has its truth. */
export function truthHidden(session) {
  const trials = allTrials(session);
  return !trials.some(truthKnown) && (session.blinded || trials.length > 0);
}

/** Usable volumes of a run: processed and not censored, out of those that should be there by now. */
export function usable(run) {
  const due = run.volumes.filter((v) => v?.fdMm !== undefined || v?.missing);
  const ok = due.filter((v) => !v.missing && !v.censored).length;
  return { ok, due: due.length, minutes: (ok * (run.trS ?? 0)) / 60 };
}

/** Seconds between two trials of a run (median), or null. */
export function stimulusInterval(run) {
  const onsets = Object.values(run.trials).map((t) => t.onsetS).sort((a, b) => a - b);
  return quantile(onsets.slice(1).map((onset, i) => onset - onsets[i]), 0.5);
}

/** "warming up, 3 of 6" while a result's z-scoring statistics rest on too few betas, or "". */
export function warmingUp(result) {
  return result.warming_up ? `warming up, ${result.warming_up.n} of ${result.warming_up.of}` : "";
}
