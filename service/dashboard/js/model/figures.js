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

const counted = new WeakMap(); // volumes of a run -> how many of them are usable
const sorted = new WeakMap(); // runs -> their trials: runs are never changed in place

/** Every trial of the session in the order of the experiment. */
export function allTrials(session) {
  const known = sorted.get(session.runs);
  if (known) return known;
  const runs = Object.values(session.runs).sort((a, b) => a.run - b.run);
  const trials = runs.flatMap((run) => Object.values(run.trials).sort((a, b) => a.trial - b.trial));
  sorted.set(session.runs, trials);
  return trials;
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

/** The latest stage at which a trial has a beta, or null. */
export function betaStageOf(trial) {
  return STAGES.findLast((stage) => trial.stages[stage]?.beta) ?? null;
}

/** Whether the betas of a trial's run are decoded: a run that began without a bundle has betas only. */
export const isDecoded = (session, trial) => session.runs[trial.run].decoded !== false;

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

/**
 * Where the reconstruction of a trial stands: "drawing" while the newest result's is being made, "drawn" once the trial has
 * one, "none" where none can come, "waiting" before the first result.
 * @returns {{state: "drawing"|"drawn"|"none"|"waiting", stage: ?string, why: string}} why: the reason for none
 */
export function drawingOf(session, trial) {
  const stage = stageOf(trial);
  if (!isDecoded(session, trial)) return { state: "none", stage, why: "no bundle: betas are not decoded" };
  if (!stage) {
    const why = failureOf(trial);
    return { state: session.closedT === null && !why ? "waiting" : "none", stage, why: why ?? "no result" };
  }
  const { result, reconstruction, skipped, failed } = trial.stages[stage];
  const over = reconstruction || skipped || failed || session.archive;
  if (result.to_be_drawn && !over) return { state: "drawing", stage, why: "" };
  if (reconstructionOf(trial)) return { state: "drawn", stage, why: "" };
  const unsaid = result.to_be_drawn ? "no reconstruction came" : "this bundle has no reconstructions";
  return { state: "none", stage, why: skipped?.text ?? failed ?? (result.to_be_drawn === undefined ? "no reconstruction" : unsaid) };
}

/** Why a stage that has no result will have none, or null. */
function lackOf(stage) {
  if (!stage || stage.result) return null;
  return stage.failed ?? (stage.paused ? "decoding was paused" : null);
}

/** Why a trial has no result, or null. */
export const failureOf = (trial) => STAGES.map((stage) => lackOf(trial.stages[stage])).findLast(Boolean) ?? null;

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

/**
 * What a trial stands at: planned, waiting, fast, revised, final, or undecoded once no result can follow. In a run without
 * a bundle its stages are those of its beta.
 */
export function trialState(session, trial) {
  const stage = isDecoded(session, trial) ? stageOf(trial) : betaStageOf(trial);
  if (stage) return stage;
  if (failureOf(trial)) return "undecoded";
  if (session.closedT !== null) return "undecoded";
  const run = session.runs[trial.run];
  return scanTime(run) > trial.onsetS ? "waiting" : "planned";
}

/**
 * Top-1 of one stage with one result more: over its last WINDOW results whose truth was known when they came.
 * @param {object[]} series of the stage so far, see there
 * @returns {{run: number, trial: number, hit: boolean, n: number, p: number, low: number, high: number, chance: number,
 *   poolSize: number}[]} what stands in it stays as it is: a later stage has a series of its own
 */
export function withAccuracy(series, trial, result) {
  const was = result.candidates.length > 0 ? isTruth(trial, result.candidates[0]) : null;
  if (was === null) return series;
  const window = [...series.slice(1 - WINDOW).map((s) => s.hit), was];
  const k = window.filter(Boolean).length;
  const [low, high] = wilson(k, window.length);
  const of = { run: trial.run, trial: trial.trial, hit: was, chance: result.chance, poolSize: result.pool_size };
  return [...series, { ...of, n: window.length, p: k / window.length, low, high }];
}

/** WAITING, LIVE, CLOSED or ARCHIVED. */
export function sessionState(session) {
  if (session.archive) return "ARCHIVED";
  if (session.closedT !== null) return "CLOSED";
  const run = session.runs[session.run];
  return run && !run.ended && run.volumes.length > 0 ? "LIVE" : "WAITING";
}

/** Whether motion was measured in a run: true, false, or null while no volume can show it. */
export function motionMeasured(run) {
  const processed = run.volumes.filter((v) => v?.censored !== undefined);
  if (processed.some((v) => v.translationMm || typeof v.fdMm === "number")) return true;
  return processed.length > 1 ? false : null; // a run's first volume has no displacement
}

/**
 * Usable volumes of a run: processed and not censored, out of those that should be there by now. Unknown (ok null) where
 * motion was not measured.
 */
export function usable(run) {
  const known = counted.get(run.volumes);
  if (known) return known;
  const due = run.volumes.filter((v) => v?.censored !== undefined || v?.missing);
  const ok = motionMeasured(run) ? due.filter((v) => !v.missing && !v.censored).length : null;
  const of = { ok, due: due.length, minutes: ((ok ?? 0) * (run.trS ?? 0)) / 60 };
  counted.set(run.volumes, of);
  return of;
}

/** Minutes of usable data of all runs so far. */
export const usableMinutes = (session) => Object.values(session.runs).reduce((sum, run) => sum + usable(run).minutes, 0);

const FASTER = 1.25; // times real time: above this a run is being sent from a record, not from a scanner

/**
 * How many times faster than real time volumes arrive; null if they do not, undefined while a run has too few to tell.
 * A latency is late only where it is null.
 */
export function hurry(session) {
  const trS = session.runs[session.run]?.trS;
  const gaps = session.arrivals.slice(1).map((t, i) => t - session.arrivals[i]);
  if (!trS || gaps.length < 3) return undefined;
  const pace = trS / Math.max(1e-3, quantile(gaps, 0.5));
  return pace > FASTER ? pace : null;
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
