// The page's pure half under `node --test`: what messages do to the session, and the figures made from it.
// MINDSIGHT_CASES names a folder with the messages and the expected figures, written by test_reducer.py.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as figures from "../../service/dashboard/js/model/figures.js";
import { parse } from "../../service/dashboard/js/net/socket.js";
import { emptySession, reduce, skipGap } from "../../service/dashboard/js/model/store.js";

const read = (name) => readFileSync(`${process.env.MINDSIGHT_CASES}/${name}`, "utf8");
const MESSAGES = read("messages.jsonl").trim().split("\n").map(parse);
const BLINDED = read("blinded.jsonl").trim().split("\n").map(parse);
const EXPECTED = JSON.parse(read("expected.json"));

const play = (messages, from = emptySession()) => messages.reduce(reduce, from);
const whole = play(MESSAGES);

function freeze(value) {
  if (value === null || typeof value !== "object" || Object.isFrozen(value)) return value;
  Object.freeze(value);
  Object.values(value).forEach(freeze);
  return value;
}

/** A small seeded generator (mulberry32): failures can be repeated. */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

test("every message of a session is taken, and nothing is changed in place", () => {
  let session = freeze(emptySession());
  for (const message of MESSAGES) session = freeze(reduce(session, freeze(message)));
  assert.equal(session.lastId, MESSAGES.length);
  assert.deepEqual(session, whole);
  assert.equal(Object.keys(session.runs).length, 2);
  assert.equal(figures.allTrials(session).length, 24);
});

test("a message that was seen changes nothing at all", () => {
  let session = emptySession();
  for (const message of MESSAGES.slice(0, 300)) {
    session = reduce(session, message);
    assert.equal(reduce(session, message), session);
    assert.equal(reduce(session, MESSAGES[0]), session);
  }
});

test("any breaks with any overlap on resuming end in the same session", () => {
  const next = random(20);
  for (let round = 0; round < 30; round++) {
    let session = emptySession();
    while (session.lastId < MESSAGES.length) {
      const from = Math.max(0, session.lastId - Math.floor(next() * 40));
      session = play(MESSAGES.slice(from, session.lastId + 1 + Math.floor(next() * 200)), session);
    }
    assert.deepEqual(session, whole);
  }
});

test("a message that leaves some out is refused, and the gap is noted until it is filled", () => {
  const before = play(MESSAGES.slice(0, 100));
  const gapped = reduce(before, MESSAGES[104]);
  assert.deepEqual(gapped, { ...before, gap: { expected: 101, got: 105 } });
  assert.deepEqual(play(MESSAGES.slice(100), gapped), whole);
});

test("a gap that the server cannot fill is reported and skipped", () => {
  const gapped = reduce(play(MESSAGES.slice(0, 100)), MESSAGES[104]);
  const skipped = reduce(skipGap(gapped, 5), MESSAGES[104]);
  assert.equal(skipped.lastId, 105);
  assert.equal(skipped.gap, null);
  assert.ok(skipped.log.some((entry) => entry.level === "warning" && entry.text.includes("101 to 104")));
});

test("a type of message that this page does not know is passed over", () => {
  const before = play(MESSAGES.slice(0, 10));
  const after = reduce(before, { type: "something.new", id: 11, t: 1 });
  assert.deepEqual(after, { ...before, lastId: 11 });
});

test("rolling top-1 of each stage and its interval are Python's", () => {
  for (const stage of figures.STAGES) {
    const series = whole.accuracy[stage];
    assert.equal(series.length, EXPECTED.rolling[stage].length);
    assert.ok(series.length > 20 && series.some((s) => s.p < 1));
    series.forEach((s, i) => {
      const { n, p, low, high } = EXPECTED.rolling[stage][i];
      assert.equal(s.n, n);
      for (const [mine, python] of [[s.p, p], [s.low, low], [s.high, high]]) assert.ok(Math.abs(mine - python) < 1e-12);
    });
  }
});

test("an accuracy that was shown stays: a later stage has its own", () => {
  let session = emptySession();
  for (const message of MESSAGES) {
    const before = session.accuracy;
    session = reduce(session, message);
    for (const stage of figures.STAGES) assert.deepEqual(session.accuracy[stage].slice(0, before[stage].length), before[stage]);
  }
});

test("Wilson's interval is Python's for every k of n", () => {
  for (const [k, n, low, high] of EXPECTED.wilson) {
    const [l, h] = figures.wilson(k, n);
    assert.ok(Math.abs(l - low) < 1e-12 && Math.abs(h - high) < 1e-12, `${k} of ${n}`);
  }
});

test("quantiles are NumPy's", () => {
  for (const { values, q, expected } of EXPECTED.quantiles) {
    assert.ok(Math.abs(figures.quantile(values, q) - expected) < 1e-9);
  }
  assert.equal(figures.quantile([], 0.5), null);
});

test("a blinded session holds no truth and no accuracy", () => {
  const session = play(BLINDED);
  assert.equal(session.lastId, BLINDED.length);
  assert.deepEqual(session.accuracy, { fast: [], revised: [], final: [] });
  const trials = figures.allTrials(session);
  assert.equal(trials.length, 24);
  for (const trial of trials) {
    assert.deepEqual([trial.stimulus, trial.candidate, trial.label, figures.hit(trial)], [null, null, null, null]);
  }
});

test("the session goes through its states, and a trial through its stages", () => {
  const seen = [];
  const stages = [];
  let session = emptySession();
  for (const message of MESSAGES) {
    session = reduce(session, message);
    const state = figures.sessionState(session);
    if (seen.at(-1) !== state) seen.push(state);
    const trial = session.runs[1]?.trials[3];
    const stage = trial && figures.trialState(session, trial);
    if (stage && stages.at(-1) !== stage) stages.push(stage);
  }
  assert.deepEqual(seen, ["WAITING", "LIVE", "WAITING", "LIVE", "WAITING", "CLOSED", "ARCHIVED"]);
  assert.deepEqual(stages, ["planned", "waiting", "fast", "revised", "final"]);
});

test("usable data is what was processed and not censored", () => {
  const { usable } = EXPECTED;
  for (const [run, { ok, due }] of Object.entries(usable)) {
    assert.equal(figures.usable(whole.runs[run]).ok, ok);
    assert.equal(figures.usable(whole.runs[run]).due, due);
  }
});

test("the live view follows the furthest trial, not the latest message", () => {
  assert.deepEqual(whole.newest, { run: 2, trial: 12 });
  const lastFinal = MESSAGES.findIndex((m) => m.type === "run.ended" && m.run === 2) + 2;
  assert.equal(MESSAGES[lastFinal].stage, "final");
  assert.deepEqual(play(MESSAGES.slice(0, lastFinal + 1)).newest, { run: 2, trial: 12 });
});

test("the log merges neighbours: censored volumes together, final results as one", () => {
  const texts = whole.log.map((entry) => entry.text);
  assert.ok(texts.some((text) => /^volumes 27–28 of run 1 excluded from the analysis: FD up to \d\.\d\d mm$/.test(text)));
  assert.equal(texts.filter((text) => text.includes("final results")).length, 2);
  assert.ok(texts.some((text) => text === "volume 33 of run 2 missing: not sent within 3 TR"));
  assert.ok(texts.every((text) => typeof text === "string" && !/undefined|NaN|null,/.test(text)));
});

test("results of a run that warms up say so", () => {
  const early = MESSAGES.filter((m) => m.type === "result" && m.run === 1 && m.stage === "fast" && m.trial < 8);
  const words = early.sort((a, b) => a.trial - b.trial).map(figures.warmingUp);
  assert.deepEqual(words, [1, 2, 3, 4, 5].map((n) => `warming up, ${n} of 6`).concat("", ""));
  const said = whole.log.filter((entry) => entry.text.includes("warming up")).map((entry) => entry.text);
  assert.equal(said.length, 5);
  assert.match(said[2], /^trial 3 fast: .+; warming up, 3 of 6$/);
});

const warning = (id, more) => ({ type: "warning", id, t: 1, session: "s", level: "warning", code: "x.y", text: "words", ...more });

test("the log keeps the level of a warning", () => {
  for (const level of ["info", "warning", "error"]) {
    const [entry] = reduce(emptySession(), warning(1, { level })).log;
    assert.deepEqual([entry.level, entry.text], [level, "words"]);
  }
});

test("volumes are excluded for the reason that the message states, whatever its words are", () => {
  const processed = (id, index, why) =>
    ({ type: "volume.processed", id, t: 1, session: "s", run: 1, index, fd_mm: 0.2, censored: true, ...(why && { censored_by: why }) });
  const censored = (id, index) => warning(id, { code: "volume.censored", run: 1, index, text: "words: that nobody reads" });
  const log = play([
    processed(1, 4, "spike"), censored(2, 4), processed(3, 5, "spike"), censored(4, 5), processed(5, 6, "motion"), censored(6, 6),
    processed(7, 7), censored(8, 7),
  ]).log;
  assert.deepEqual(log.map((entry) => entry.text), [
    "volumes 4–5 of run 1 excluded from the analysis: sudden signal change (spike); check the coil if it recurs",
    "words: that nobody reads", // one alone keeps its own words
    "words: that nobody reads", // of an earlier release
  ]);
});

test("a latency is kept for the last hundred", () => {
  for (const values of Object.values(whole.latency)) assert.ok(values.length > 0 && values.length <= 100);
  assert.deepEqual(whole.latency.motion, EXPECTED.motion_ms);
});

const drawn = (id, version, more) => ({
  type: "reconstruction", id, t: 1, session: "s", run: 1, trial: 1, stage: "fast", image: version ?? "full", ...(version && { version }),
  ...more,
});
const shown = (session) => figures.reconstructionOf(session.runs[1].trials[1]).image;

test("of a reconstruction's versions the latest is shown, in whichever order they come", () => {
  assert.deepEqual(["preview", "full", "refined"].map((v, i, all) => shown(play(all.slice(0, i + 1).map((w, j) => drawn(j + 1, w))))),
    ["preview", "full", "refined"]);
  assert.equal(shown(play([drawn(1, "refined"), drawn(2, "full"), drawn(3, "preview")])), "refined");
  assert.equal(shown(play([drawn(1, undefined), drawn(2, "preview")])), "full"); // of an earlier release
  assert.equal(shown(play([drawn(1, "refined"), drawn(2, "preview", { stage: "revised" })])), "preview");
});

test("a reconstruction's latency is that of the full image", () => {
  const latency = (ms) => ({ latency_ms: { reconstruction: ms } });
  const beta = { type: "beta.ready", id: 1, t: 1, session: "s", run: 1, trial: 1, stage: "fast", latency_ms: { beta: 10 } };
  const session = play([beta, drawn(2, "preview", latency(20)), drawn(3, "full", latency(50)), drawn(4, "refined", latency(900))]);
  assert.deepEqual(session.latency.reconstruction, [60]);
});

test("stages that are not drawn are in the log, neighbours as one", () => {
  const skipped = (id, trial) => ({
    type: "reconstruction.skipped", id, t: 1, session: "s", run: 1, trial, stage: "fast", text: "not drawn: a newer stage came first",
  });
  assert.deepEqual(play([skipped(1, 4)]).log.map((entry) => entry.text), ["trial 4 fast not drawn: a newer stage came first"]);
  const three = play([skipped(1, 4), skipped(2, 5), skipped(3, 6)]);
  assert.deepEqual(three.log.map((entry) => entry.text), ["run 1: 3\u2009stages not drawn: a newer stage came first"]);
  assert.equal(three.runs[1].trials[5].stages.fast.skipped.text, "not drawn: a newer stage came first");
});

test("a fit belongs to the image that it was measured on", () => {
  const made = { stage: "fast", image: "a" };
  const trial = (fit) => ({ stages: { fast: { reconstruction: made, ...(fit && { fit }) } } });
  assert.equal(figures.fitOf(trial(null), made), null);
  assert.equal(figures.fitOf(trial({ image: "b", token_cosine: 0.5 }), made), null);
  assert.equal(figures.fitOf(trial({ image: "a", token_cosine: 0.5 }), made).token_cosine, 0.5);
});

test("a seed keeps all its digits", () => {
  const digits = "9223372036854775807";
  assert.equal(parse(`{"type":"reconstruction","seed":${digits},"id":1}`).seed, digits);
  assert.equal(parse('{"type":"reconstruction","seed":12,"id":1}').seed, 12);
  assert.equal(parse('{"text":"\\"seed\\":1234567890123456789"}').text, '"seed":1234567890123456789');
});

test("a beta that comes while decoding is paused is not awaited, until a later stage is decoded", () => {
  const at = (id, stage) => ({ type: "beta.ready", id, t: 1, session: "s", run: 1, trial: 1, stage });
  const told = (id, instruction) => ({ type: "instructed", id, t: 1, session: "s", change: `c${id}`, instruction });
  const run = { type: "run.started", id: 2, t: 1, session: "s", run: 1, task: "x", tr_s: 1.5 };
  const opened = { type: "session.opened", id: 1, t: 1, session: "s", subject: "sub-1", bundle: "b" };
  const paused = play([opened, run, told(3, "pause"), at(4, "fast")]);
  const trial = (session) => session.runs[1].trials[1];
  assert.equal(figures.trialState(paused, trial(paused)), "undecoded");
  assert.deepEqual(figures.drawingOf(paused, trial(paused)), { state: "none", stage: null, why: "decoding was paused" });
  const result = { type: "result", id: 7, t: 1, session: "s", run: 1, trial: 1, stage: "revised", candidates: [], to_be_drawn: true };
  const resumed = play([told(5, "resume"), at(6, "revised"), result], paused);
  assert.equal(figures.trialState(resumed, trial(resumed)), "revised");
  assert.equal(figures.drawingOf(resumed, trial(resumed)).state, "drawing");
});

test("how fast volumes come is not known before four have come", () => {
  const session = (...arrivals) => ({ run: 1, runs: { 1: { trS: 1.5 } }, arrivals });
  assert.equal(figures.hurry(session()), undefined);
  assert.equal(figures.hurry(session(0, 0.5, 1)), undefined);
  assert.equal(figures.hurry(session(0, 0.5, 1, 1.5)), 3);
  assert.equal(figures.hurry(session(0, 1.5, 3, 4.5)), null);
});
