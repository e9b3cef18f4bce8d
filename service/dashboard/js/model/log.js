// The log: what happened, in plain words, newest last. Pure.

import { bundle, count, duration, plural } from "./format.js";
import { described } from "./feedback.js";
import { earlierResult, warmingUp } from "./figures.js";

/** What a candidate is called. */
export const nameOf = (candidate) => candidate.label ?? candidate.id;

/** "volume 37" or "volumes 37–39". */
function volumes(entry) {
  return entry.from === entry.to ? `volume ${entry.from}` : `volumes ${entry.from}–${entry.to}`;
}

const CENSORED = {
  spike: "sudden signal change (spike); check the coil if it recurs",
  pose: "no head position matches the reference; check that the series is the right one",
};

// Consecutive entries of the same kind are merged into one, worded like this.
const MERGED = {
  skipped: (e) => `${e.n === 1 ? `trial ${e.trial} ${e.stage}` : `run ${e.run}: ${plural(e.n, "stage")}`} ${e.reason}`,
  censored: (e) => `${volumes(e)} of run ${e.run} excluded from the analysis: ${e.reason ?? `FD up to ${e.fdMm.toFixed(2)} mm`}`,
  missing: (e) => `${volumes(e)} of run ${e.run} missing: ${e.reason}`,
  final: (e) => `run ${e.run}: final results, ${plural(e.n, "trial")}, first candidate changed in ${count(e.changed)}`,
};

function merge(last, entry) {
  if (!last || last.kind !== entry.kind || last.run !== entry.run) return null;
  if (entry.kind === "final") return { ...last, t: entry.t, n: last.n + 1, changed: last.changed + entry.changed };
  if (entry.kind === "skipped") return entry.reason === last.reason ? { ...last, t: entry.t, n: last.n + 1 } : null;
  if (entry.from > last.to + 1 || entry.reason !== last.reason) return null;
  return { ...last, to: entry.to, fdMm: Math.max(last.fdMm ?? 0, entry.fdMm ?? 0) };
}

/** The log with one more entry, or the same log for null. */
export function append(log, entry) {
  if (entry === null) return log;
  const last = log.at(-1);
  const merged = entry.kind ? merge(last, entry) : null;
  if (merged) return [...log.slice(0, -1), { ...merged, text: MERGED[merged.kind](merged) }];
  return [...log, { text: entry.kind && MERGED[entry.kind](entry), ...entry }];
}

function decoded(before, m) {
  const trial = before.runs[m.run]?.trials[m.trial];
  const old = trial ? earlierResult(trial, m.stage) : null;
  const first = m.candidates[0];
  if (!first) return { level: "warning", text: `trial ${m.trial} ${m.stage}: no candidate` };
  const changed = old ? old.candidates[0]?.id !== first.id : false;
  if (m.stage === "final") return { level: "info", kind: "final", run: m.run, n: 1, changed: changed ? 1 : 0 };
  const p = m.confidence.toFixed(2);
  const warming = m.warming_up ? `; ${warmingUp(m)}` : "";
  const text = !old
    ? `trial ${m.trial} ${m.stage}: ${nameOf(first)}, p ${p} (null ${m.null_confidence.toFixed(2)})${warming}`
    : `trial ${m.trial} ${m.stage}: ${changed ? "now" : "stays"} ${nameOf(first)}, p ${old.confidence.toFixed(2)} → ${p}`;
  return { level: "info", text };
}

/** A warning's text; consecutive volumes censored for the same reason become one entry. */
function warned(before, m) {
  const entry = { level: m.level ?? "warning", text: m.text };
  if (m.code !== "volume.censored") return entry;
  const fdMm = before.runs[m.run]?.volumes[m.index]?.fdMm ?? null;
  const why = before.runs[m.run]?.volumes[m.index]?.censoredBy;
  if (!why) return entry; // an earlier release does not say
  const reason = why === "motion" ? null : CENSORED[why]; // null: its displacement
  return { ...entry, kind: "censored", run: m.run, from: m.index, to: m.index, reason, fdMm };
}

const where = (m) => (m.run ? ` (run ${m.run}, before volume ${m.index})` : "");
const INSTRUCTED = {
  mark: (m) => `mark${m.text ? `: ${m.text}` : ""}`,
  pause: () => "decoding paused: betas are kept",
  resume: () => "decoding goes on",
  blind: () => "blinded: what was shown is sent to nobody",
  unblind: () => "unblinded",
};

const WORDS = {
  "session.opened": (_, m) => {
    const parts = [`session opened for ${m.subject}`, m.bundle ? `bundle ${bundle(m.bundle)}` : "no bundle"];
    return { level: "info", text: [...parts, ...(m.blinded ? ["blinded"] : [])].join(", ") };
  },
  "session.closed": () => ({ level: "info", text: "session closed" }),
  "session.archived": (_, m) => ({ level: "info", text: `archive written: ${plural(m.n_files, "file")} in ${m.archive}` }),
  "run.started": (_, m) => {
    const parts = [`run ${m.run} started: ${m.task}`, `TR ${duration(m.tr_s * 1000)}`];
    return { level: "info", text: [...parts, ...(m.n_volumes ? [plural(m.n_volumes, "volume")] : [])].join(", ") };
  },
  "run.placed": (_, m) => ({
    level: "info", text: `run ${m.run} ${m.how === "refused" ? "not registered" : "registered"}: ${m.text}`,
  }),
  "run.ended": (_, m) => ({
    level: m.n_missing ? "warning" : "info",
    text: `run ${m.run} complete: ${plural(m.n_volumes, "volume")}${m.n_missing ? `, ${count(m.n_missing)} missing` : ""}`,
  }),
  "volume.missing": (_, m) => ({
    level: "warning", kind: "missing", run: m.run, from: m.index, to: m.index, reason: m.reason,
  }),
  "limits.changed": (_, m) => {
    const changes = [...(m.fd_mm ? [["censoring fd_mm", m.fd_mm]] : []), ...Object.entries(m.limits ?? {})];
    const limits = changes.length ? [`limits changed: ${changes.map(([name, limit]) => `${name} ${limit}`).join(", ")}`] : [];
    const target = m.usable_min ? [`usable data wanted: ${m.usable_min} min`] : [];
    return { level: "info", text: [...limits, ...target].join("; ") };
  },
  "instructed": (_, m) => (m.instruction in INSTRUCTED ? { level: "info", text: INSTRUCTED[m.instruction](m) + where(m) } : null),
  "feedback.chosen": (_, m) => ({ level: "info", text: described(m.plan) }),
  "roi.declared": (_, m) => ({ level: "info", text: `region ${m.name}: ${plural(m.n_voxels, "voxel")}` }),
  "bundle.changed": (_, m) => ({ level: "info", text: `from the next run on bundle ${bundle(m.bundle)}: ${m.text}` }),
  "result": decoded,
  "reconstruction.skipped": (_, m) => ({
    level: "info", kind: "skipped", run: m.run, trial: m.trial, stage: m.stage, reason: m.text, n: 1,
  }),
  "warning": warned,
};

/** The log's entry for one message, or null if it has none. */
export function describe(before, message) {
  const entry = WORDS[message.type]?.(before, message) ?? null;
  return entry && { id: message.id, t: message.t, ...entry };
}
