// One session, live: messages in, views out to the panels, at most one drawing per frame.
//
// A view is what a panel sees: {name, replay, session, shown: {run, trial} | null, live, trial, run, truthHidden, connection, stale,
// settled, limits, fdLimitMm, usableMin, axis, at, now}. `shown` is the trial looked at, `run` the run whose volumes the charts
// show, `truthHidden` whether this key is not sent what was shown, `limits` the session's limits of quality, by the gateway's
// names, `usableMin` the minutes of usable data wanted (null: not stated), `axis` what the charts share, `at` the volume under
// their crosshair, `now` the server's clock in seconds.

import { allTrials, sessionState, trialState } from "../model/figures.js";
import { emptySession, reduce, skipGap } from "../model/store.js";
import { SessionSocket } from "../net/socket.js";
import { h } from "../ui/dom.js";
import { expectImage, takeImage } from "../ui/images.js";
import { VolumeAxis } from "../ui/volume_axis.js";
import "../panels/accuracy.js";
import "../panels/banner.js";
import "../panels/brain.js";
import "../panels/candidates.js";
import "../panels/displacement.js";
import "../panels/events.js";
import "../panels/header.js";
import "../panels/latency.js";
import "../panels/motion.js";
import "../panels/registration.js";
import "../panels/rois.js";
import "../panels/signal.js";
import "../panels/trial.js";
import "../panels/trials.js";

const CLOCK_MS = 250; // how often ages are redrawn
const QUIET_MS = 150; // a pause this long between messages: the log has been replayed
const CATCHING_UP_MS = 1000; // how often the page is drawn during the replay
const FD_LIMIT_MM = 0.5; // Power et al. 2012; ingest's default
const LEFT = ["motion", "displacement", "latency", "signal"];
const MIDDLE = ["trial", "candidates"];
const RIGHT = ["brain", "registration", "events"];
const PANELS = ["header", "banner", ...LEFT, ...MIDDLE, ...RIGHT, "rois", "trials", "accuracy"];

const named = (limits) => Object.fromEntries(Object.entries(limits).filter(([, limit]) => limit !== null && limit !== undefined));

export class LivePage {
  #session = emptySession();
  #connection = { state: "connecting", attempt: 0, retryAt: null, lostAt: null };
  #selected = null; // {run, trial}, or null: live
  #offset = null; // server's clock minus this browser's, seconds
  #refusedGap = null;
  #blindings = new Set(); // that were seen
  #frame = null;
  #record = { limits: {}, usableMin: null, seesTruth: true }; // what the session was opened with, and this key's view
  #limits = [null, null, {}]; // the record's and the session's, and both together
  #settled = false; // caught up with the log; until then not every message is drawn
  #quiet = null;
  #drawnAt = 0;

  /** @param {?number} replay times its own pace, for a session that has ended; null: live */
  constructor(name, refused, replay = null) {
    this.name = name;
    this.replay = replay;
    this.refused = refused;
    this.axis = new VolumeAxis("volumes", () => this.#schedule());
    this.panels = Object.fromEntries(PANELS.map((panel) => [panel, h(`ms-${panel}`)]));
    const group = (name, panels) => h("div", { class: name }, ...panels.map((panel) => this.panels[panel]));
    this.element = h("div", { class: "live" },
      group("top", ["header", "banner"]), group("left", LEFT), group("middle", MIDDLE), group("right", RIGHT),
      this.panels.trials, this.panels.accuracy);
    this.element.addEventListener("ms-select", (event) => this.#select(event.detail));
    this.socket = new SessionSocket(name, {
      lastId: () => this.#session.lastId,
      onMessage: (message) => this.#receive(message),
      onTick: (t) => this.#tick(t),
      onComing: expectImage,
      onPicture: takeImage,
      onRecord: (record) => this.#opened(record),
      onState: (state) => this.#connected(state),
    }, replay);
  }

  start() {
    addEventListener("keydown", this.#key);
    addEventListener("online", this.#online);
    this.clock = setInterval(() => this.#schedule(), CLOCK_MS);
    this.socket.start();
    this.#schedule();
  }

  stop() {
    removeEventListener("keydown", this.#key);
    removeEventListener("online", this.#online);
    clearInterval(this.clock);
    this.socket.stop();
    this.axis.clear();
  }

  #opened({ options, sees_truth: seesTruth }) {
    const limits = named({ ...options.limits, fd_mm: options.fd_mm });
    this.#record = { limits, usableMin: options.usable_min ?? null, seesTruth };
    this.#schedule();
  }

  #receive(message) {
    if (this.#hidesOrShows(message)) return this.#again();
    this.#session = reduce(this.#session, message);
    const gap = this.#session.gap;
    if (gap) this.#gap(gap, message);
    this.#syncClock(message.t);
    if (!this.#settled) {
      clearTimeout(this.#quiet);
      this.#quiet = setTimeout(() => this.#settle(), QUIET_MS);
    }
    this.#schedule();
  }

  /** Whether this message, which was not seen before, changes who is sent what was shown. */
  #hidesOrShows({ instruction, change }) {
    if (!["blind", "unblind"].includes(instruction) || this.#blindings.has(change)) return false;
    this.#blindings.add(change);
    return this.#settled;
  }

  /** Who is sent what was shown has changed: all messages again, as this key may see them now. */
  #again() {
    this.#session = emptySession();
    this.#settled = false;
    this.socket.restart();
  }

  /** A gap is requested again once; if it remains, the server does not have those messages. */
  #gap(gap, message) {
    if (this.#refusedGap !== gap.expected) {
      this.#refusedGap = gap.expected;
      this.#session = { ...this.#session, gap: null };
      this.socket.resume();
    } else {
      this.#session = reduce(skipGap(this.#session, message.t), message);
    }
  }

  /** The message with the least delay gives the best estimate of the server's clock. */
  #syncClock(t) {
    const offset = t - Date.now() / 1000;
    this.#offset = this.#offset === null ? offset : Math.max(offset, this.#offset);
  }

  #tick(t) {
    this.#syncClock(t);
    this.#settle();
  }

  #settle() {
    clearTimeout(this.#quiet);
    this.#settled = true;
    this.#schedule();
  }

  #connected(state) {
    if (state.state === "denied" || state.state === "forbidden") return this.refused(state.state);
    const lostAt = state.state === "open" ? null : (this.#connection.lostAt ?? Date.now());
    this.#connection = { ...state, lostAt };
    if (state.state !== "open") this.#settled = false;
    this.#schedule();
  }

  #online = () => this.socket.retryNow();

  #key = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) this.#step(step);
    else if (event.key === "Home") this.#step(-Infinity);
    else if (event.key === "Escape" || event.key === "End") this.#select(null);
    else if (event.key === "," || event.key === ".") this.axis.step(event.key === "." ? 1 : -1, this.#view().run?.volumes.length ?? 0);
    else if (event.key === "+" || event.key === "-") this.axis.zoomBy(event.key === "+" ? 0.5 : 2);
    else if (event.key === "0") this.axis.zoom(null);
    else return;
    event.preventDefault();
  };

  #step(by) {
    const trials = allTrials(this.#session).filter((trial) => trialState(this.#session, trial) !== "planned");
    const { trial } = this.#view();
    if (!trials.length) return;
    const to = trials[Math.max(0, Math.min(trials.length - 1, trials.indexOf(trial) + by))];
    this.#select({ run: to.run, trial: to.trial });
  }

  /** Shows a trial; selecting the newest one returns to live. */
  #select(selected) {
    const newest = this.#session.newest;
    this.#selected = selected && newest && selected.run === newest.run && selected.trial === newest.trial ? null : selected;
    this.#schedule();
  }

  #schedule() {
    const past = this.#connection.state === "open" && !this.#settled;
    if (this.#frame !== null || (past && performance.now() - this.#drawnAt < CATCHING_UP_MS)) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = null;
      this.#drawnAt = performance.now();
      if (this.element.isConnected) this.#draw(this.#view());
    });
  }

  /** The newest decoded trial (without a bundle, the newest with a beta); before it, the one whose response is awaited. */
  #liveTrial(session) {
    if (session.newest) return session.newest;
    return allTrials(session).findLast((trial) => trialState(session, trial) === "waiting") ?? null;
  }

  /** The limits of the record and of the session together: the same object as long as neither changed. */
  #effectiveLimits() {
    const [record, session] = [this.#record.limits, this.#session.limits];
    if (this.#limits[0] !== record || this.#limits[1] !== session) this.#limits = [record, session, { ...record, ...session }];
    return this.#limits[2];
  }

  #view() {
    const session = this.#session;
    const limits = this.#effectiveLimits();
    const shown = this.#selected ?? this.#liveTrial(session);
    const run = session.runs[this.#selected ? this.#selected.run : session.run] ?? null;
    this.axis.follow(run);
    return {
      name: this.name,
      replay: this.replay,
      session,
      shown,
      live: this.#selected === null,
      trial: shown ? session.runs[shown.run].trials[shown.trial] : null,
      run,
      truthHidden: !this.#record.seesTruth,
      connection: this.#connection,
      stale: this.#connection.state !== "open" && (this.#connection.attempt > 0 || this.#connection.state === "missing"),
      settled: this.#settled,
      limits,
      fdLimitMm: limits.fd_mm ?? FD_LIMIT_MM,
      usableMin: session.usableMin ?? this.#record.usableMin,
      axis: this.axis,
      at: this.axis.at,
      now: Date.now() / 1000 + (this.#offset ?? 0),
    };
  }

  /** Regions of interest have the middle where nothing is decoded, and a place below the brain otherwise. */
  #placeRegions({ rois, bundle }) {
    const { trial, brain, rois: regions } = this.panels;
    const any = Object.keys(rois).length > 0;
    const alone = any && bundle === null;
    this.element.classList.toggle("regions", any && !alone);
    this.element.classList.toggle("regions-alone", alone);
    if (any && !alone && regions.previousSibling !== brain) brain.after(regions);
    else if (alone && regions.nextSibling !== trial) trial.before(regions);
    else if (!any) regions.remove();
  }

  #draw(view) {
    const { session } = view;
    this.#placeRegions(session);
    this.panels.accuracy.hidden = view.truthHidden;
    this.element.classList.toggle("no-accuracy", this.panels.accuracy.hidden);
    this.element.classList.toggle("stale", view.stale);
    this.element.dataset.last = session.lastId;
    document.title = `${session.subject ?? view.name} · ${sessionState(session)} · Mindsight`;
    for (const panel of Object.values(this.panels)) if (panel.isConnected) panel.update(view);
  }
}
