// The session as one value, and how each message changes it. Pure: knows nothing of sockets, time or the page.
//
// A message with an id already seen changes nothing; one that skips ids is refused and the gap is recorded, so that the
// socket resumes from the last id. Values are never changed in place: the same object means that nothing changed.

import { STAGES, laterVersion, withAccuracy } from "./figures.js";
import * as logEntries from "./log.js";

const LAST = 100; // latencies kept per stage
const LOG_LENGTH = 250;
const ARRIVALS = 20; // times of the last volumes, for the pace that they come at
const CANDIDATES = 8; // kept of a result: those that are shown

export const emptySession = () => ({
  lastId: 0,
  gap: null,
  session: null,
  subject: null,
  bundle: null,
  poolSize: null,
  blinded: false,
  openedT: null,
  closedT: null,
  archive: null,
  run: null,
  runs: {},
  paused: false, // whether betas are not decoded
  instructed: {}, // what the worker has taken, by the id that it was sent with
  limits: {}, // limits of quality that were changed during the session, by the gateway's names
  usableMin: null, // minutes of usable data wanted, where that was changed during the session
  lastVolumeT: null,
  newest: null, // {run, trial} of the trial that the live view shows
  space: null, // the space.known message: reference and mask
  feedback: null, // what the participant is shown, as it was chosen last
  rois: {}, // regions of interest by name: {name, mask, nVoxels, baseline}
  latency: {},
  arrivals: [],
  accuracy: Object.fromEntries(STAGES.map((stage) => [stage, []])), // by stage, see withAccuracy
  log: [],
});

const emptyRun = (run) => ({
  run, task: null, trS: null, nVolumes: null, startedT: null, ended: null, registration: null, decoded: null, volumes: [],
  trials: {}, events: [], rois: {},
});

const emptyTrial = (run, trial) => ({
  run, trial, onsetS: 0, durationS: 0, stimulus: null, candidate: null, label: null, flagged: false, flaggedBy: [],
  stages: {},
});

function withRun(s, number, change) {
  const run = s.runs[number] ?? emptyRun(number);
  return { ...s, runs: { ...s.runs, [number]: { ...run, ...change(run) } } };
}

function withVolume(s, m, change) {
  return withRun(s, m.run, (run) => {
    const volumes = run.volumes.slice();
    for (let i = volumes.length; i < m.index; i++) volumes[i] = null;
    volumes[m.index] = { ...volumes[m.index], index: m.index, ...change };
    return { volumes };
  });
}

function withTrial(s, m, change) {
  return withRun(s, m.run, (run) => {
    const trial = run.trials[m.trial] ?? emptyTrial(m.run, m.trial);
    return { trials: { ...run.trials, [m.trial]: { ...trial, ...change(trial) } } };
  });
}

/** Every event of the run, decoded or not: {onsetS, durationS}. */
const withEvent = (s, m) =>
  withRun(s, m.run, (run) => ({ events: [...run.events, { onsetS: m.onset_s, durationS: m.duration_s }] }));

/** The regions' values in one volume, by region and volume. */
function withRois(s, m) {
  return withRun(s, m.run, (run) => {
    const rois = { ...run.rois };
    for (const { name, mean, percent = null, n_voxels: nVoxels } of m.rois) {
      const rows = (rois[name] ?? []).slice();
      for (let i = rows.length; i < m.index; i++) rows[i] = null;
      rows[m.index] = { mean, percent, nVoxels, censored: m.censored };
      rois[name] = rows;
    }
    return { rois };
  });
}

const withStage = (s, m, part) =>
  withTrial(s, m, (trial) => ({
    flagged: trial.flagged || m.flagged === true,
    flaggedBy: m.flagged_by?.some((why) => !trial.flaggedBy.includes(why))
      ? [...new Set([...trial.flaggedBy, ...m.flagged_by])]
      : trial.flaggedBy,
    stages: { ...trial.stages, [m.stage]: { ...trial.stages[m.stage], ...part } },
  }));

function withLatency(s, latencies) {
  const latency = { ...s.latency };
  for (const [stage, ms] of Object.entries(latencies ?? {})) {
    if (ms !== null) latency[stage] = [...(latency[stage] ?? []).slice(1 - LAST), ms];
  }
  return { ...s, latency };
}

const after = (a, b) => b === null || a.run > b.run || (a.run === b.run && a.trial >= b.trial);

/** The total latency of one volume (gateway to GLM), for comparison with the TR; null where its wait is not known. */
function volumeTotal(s, m) {
  const received = s.runs[m.run].volumes[m.index]?.receiveMs ?? 0;
  const { queue = null, motion = 0, glm = 0 } = m.latency_ms ?? {};
  return queue === null ? null : received + queue + motion + glm;
}

/**
 * The total latency of one result, from the acknowledged volume to candidates and to reconstruction, for comparison with
 * the stimulus interval. Final results come at the end of a run and are not urgent. Where a clock was set, it is not known.
 */
function withResultTotal(s, m) {
  if (m.stage === "final") return s;
  const { beta } = s.runs[m.run].trials[m.trial].stages[m.stage];
  const since = m.latency_ms?.[m.type === "result" ? "retrieval" : "reconstruction"] ?? null;
  const until = beta ? (beta.latency_ms?.beta ?? null) : 0;
  return since === null || until === null ? s : withLatency(s, { [m.type]: until + since });
}

/** One version of a reconstruction: the latest counts, whichever comes last. Latency is counted to the full image. */
function withReconstruction(s, m) {
  const known = s.runs[m.run]?.trials[m.trial]?.stages[m.stage]?.reconstruction ?? null;
  const { reconstruction: _, ...steps } = m.latency_ms ?? {};
  const next = withLatency(withStage(s, m, { reconstruction: laterVersion(known, m) }), steps);
  return (m.version ?? "full") === "full" ? withResultTotal(next, m) : next;
}

/** A result without what no panel shows. */
function kept({ pairs: _, ...result }) {
  return { ...result, candidates: result.candidates.slice(0, CANDIDATES) };
}

/** What the result does to the accuracy of its stage; that of other stages stays. */
function withOwnAccuracy(s, m) {
  const series = withAccuracy(s.accuracy[m.stage], s.runs[m.run].trials[m.trial], m);
  return { ...s, accuracy: { ...s.accuracy, [m.stage]: series } };
}

const HANDLERS = {
  "session.opened": (s, m) => ({
    ...s, session: m.session, subject: m.subject, bundle: m.bundle ?? null, poolSize: m.pool_size ?? null,
    blinded: m.blinded === true, openedT: m.t,
  }),
  "session.closed": (s, m) => ({ ...s, closedT: m.t }),
  "session.archived": (s, m) => ({ ...s, archive: { path: m.archive, nFiles: m.n_files, t: m.t } }),
  "run.started": (s, m) => ({
    ...withRun(s, m.run, () => ({
      task: m.task, trS: m.tr_s, nVolumes: m.n_volumes ?? null, startedT: m.t, decoded: s.bundle !== null,
    })),
    run: m.run,
    arrivals: [],
    lastVolumeT: null,
  }),
  "run.placed": (s, m) => withRun(s, m.run, () => ({ registration: m })),
  "run.ended": (s, m) =>
    withRun(s, m.run, () => ({ ended: { t: m.t, nVolumes: m.n_volumes, nMissing: m.n_missing ?? 0 } })),
  "event.added": (s, m) =>
    m.trial === null || m.trial === undefined
      ? withEvent(s, m)
      : withTrial(withEvent(s, m), m, () => ({
          onsetS: m.onset_s, durationS: m.duration_s, stimulus: m.stimulus ?? null, candidate: m.candidate ?? null,
          label: m.label ?? null,
        })),
  // the motion alert has a limit of its own, which the page does not show: fd_mm is the limit that censors a volume
  "limits.changed": (s, m) => {
    const { fd_mm: _, ...limits } = m.limits ?? {};
    const changed = { ...s.limits, ...limits, ...(typeof m.fd_mm === "number" ? { fd_mm: m.fd_mm } : {}) };
    return { ...s, limits: changed, usableMin: m.usable_min ?? s.usableMin };
  },
  "instructed": (s, m) => ({
    ...s, instructed: { ...s.instructed, [m.change]: m },
    paused: m.instruction === "pause" || (s.paused && m.instruction !== "resume"),
    blinded: m.instruction === "blind" || (s.blinded && m.instruction !== "unblind"),
  }),
  "feedback.chosen": (s, m) => ({ ...s, feedback: m.plan }),
  "space.known": (s, m) => ({ ...s, space: m }),
  "roi.declared": (s, m) => {
    const roi = { name: m.name, mask: m.mask, nVoxels: m.n_voxels, baseline: m.baseline ?? { kind: "rest" } };
    return { ...s, rois: { ...s.rois, [m.name]: roi } };
  },
  "roi.measured": withRois,
  "bundle.changed": (s, m) => ({ ...s, bundle: m.bundle }),
  "volume.received": (s, m) => ({
    ...withLatency(withVolume(s, m, { receiveMs: m.latency_ms?.receive ?? null }), m.latency_ms),
    lastVolumeT: m.t,
    arrivals: [...s.arrivals.slice(1 - ARRIVALS), m.t],
  }),
  "volume.missing": (s, m) => withVolume(s, m, { missing: true, reason: m.reason }),
  "volume.processed": (s, m) => {
    const next = withVolume(s, m, {
      translationMm: m.translation_mm ?? null, rotationDeg: m.rotation_deg ?? null, fdMm: m.fd_mm ?? null, censored: m.censored,
      censoredBy: m.censored_by ?? null,
      dvarsPercent: m.dvars_percent ?? null, tsnr: m.tsnr ?? null,
    });
    return withLatency(next, { ...m.latency_ms, volume: volumeTotal(next, m) });
  },
  "beta.ready": (s, m) => {
    const next = withLatency(withStage(s, m, { beta: m, paused: s.paused }), m.latency_ms);
    const isAll = next.runs[m.run].decoded === false; // no result will follow
    return isAll && after(m, s.newest) ? { ...next, newest: { run: m.run, trial: m.trial } } : next;
  },
  "result": (s, m) => {
    const next = withOwnAccuracy(withResultTotal(withLatency(withStage(s, m, { result: kept(m) }), m.latency_ms), m), m);
    return after(m, s.newest) ? { ...next, newest: { run: m.run, trial: m.trial } } : next;
  },
  "reconstruction": withReconstruction,
  "reconstruction.skipped": (s, m) => withStage(s, m, { skipped: m }),
  "reconstruction.fit": (s, m) => withLatency(withStage(s, m, { fit: m }), m.latency_ms),
  "caption": (s, m) => withStage(s, m, { caption: m }),
  "warning": (s, m) => (m.stage ? withStage(s, m, { failed: m.text }) : s),
};

/** The session after one message. */
export function reduce(session, message) {
  if (message.id <= session.lastId) return session;
  if (message.id > session.lastId + 1) return { ...session, gap: { expected: session.lastId + 1, got: message.id } };
  const handler = HANDLERS[message.type];
  const next = handler ? handler(session, message) : session;
  const log = logEntries.append(session.log, logEntries.describe(session, message)).slice(-LOG_LENGTH);
  return { ...next, log, lastId: message.id, gap: null };
}

/** The session after messages that will never come: they are reported in the log and skipped. */
export function skipGap(session, t) {
  if (session.gap === null) return session;
  const { expected, got } = session.gap;
  const text = `messages ${expected} to ${got - 1} are no longer on the server: figures may be incomplete`;
  const log = logEntries.append(session.log, { id: expected, t, level: "warning", text });
  return { ...session, log, lastId: got - 1, gap: null };
}
