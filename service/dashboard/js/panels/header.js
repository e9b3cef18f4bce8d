// Subject, run, and whether volumes arrive: the line that is read from across the room.

import { scanTime, sessionState } from "../model/figures.js";
import { age, bundle, clock, count } from "../model/format.js";
import { menu } from "../ui/nav.js";
import "./controls.js";
import { h, setAttr, setText } from "../ui/dom.js";

const AMBER_TR = 1.5;
const RED_TR = 3;
const SIGNS = { LIVE: "●", WAITING: "◌", CLOSED: "■", ARCHIVED: "▣" };
const CONNECTION = {
  connecting: ["◌", "connecting"],
  open: ["●", "connected"],
  lost: ["✕", "disconnected"],
  missing: ["✕", "no such session"],
};

/** A small caption over a value. */
function cell(caption, extra = "") {
  const value = h("span", { class: "value" });
  return { el: h("div", { class: `cell ${extra}` }, h("span", { class: "caption", text: caption }), value), value };
}

class HeaderBar extends HTMLElement {
  #volumes = 0;

  connectedCallback() {
    if (this.chip) return;
    this.subject = h("h1");
    this.what = h("span", { class: "caption" });
    this.chip = h("span", { class: "chip" });
    this.run = cell("run");
    this.volume = cell("volume");
    this.time = cell("scan time");
    this.badge = h("span", { class: "badge" });
    this.beat = h("i", { class: "beat", "aria-hidden": "true" });
    this.last = cell("last volume", "last");
    this.link = cell("stream", "link");
    this.controls = h("ms-controls");
    this.append(
      h("div", { class: "who" }, this.subject, this.what), this.chip, this.run.el, this.volume.el, this.time.el, this.badge,
      h("span", { class: "spring" }), this.controls, h("div", { class: "alive" }, this.beat, this.last.el), this.link.el,
      h("a", { href: "#sessions", class: "button", text: "Sessions" }), menu(),
    );
  }

  update(view) {
    const { session } = view;
    const state = sessionState(session);
    setText(this.subject, session.subject ?? view.name ?? "");
    const what = this.#what(session, view.name);
    setText(this.what, what);
    setAttr(this.what, "title", what);
    setAttr(this.subject, "title", this.subject.textContent);
    setText(this.chip, view.replay ? `▶ REPLAY ${view.replay} ×` : `${SIGNS[state]} ${state}`);
    setAttr(this.chip, "data-state", state);
    this.badge.hidden = !view.truthHidden && !session.blinded;
    setText(this.badge, view.truthHidden ? "◧ BLINDED" : "◨ UNBLINDED");
    setAttr(this.badge, "title", view.truthHidden ? "what was shown is not sent to this client" : "a blinded session: what was shown is on this screen");
    this.#counters(session.runs[session.run]);
    this.#heartbeat(session, state, view);
    const [sign, words] = CONNECTION[view.connection.state];
    setText(this.link.value, `${sign} ${words}`);
    this.controls.update(view);
    setAttr(this.link.el, "data-level", view.connection.state === "open" ? "ok" : "bad");
  }

  #what(session, name) {
    const decodes = session.session && (session.bundle ? `bundle ${bundle(session.bundle)}` : "no bundle");
    const pool = session.poolSize ? `pool of ${count(session.poolSize)}` : null;
    return [name, decodes, pool].filter(Boolean).join(" · ");
  }

  #counters(run) {
    const of = (n, total) => (total === null ? count(n) : `${count(n)} / ${count(total)}`);
    setText(this.run.value, run ? String(run.run) : "–");
    setText(this.volume.value, run ? of(run.volumes.length, run.nVolumes) : "–");
    const elapsed = run ? scanTime(run) : null;
    const left = run?.nVolumes && !run.ended ? ` · ${clock((run.nVolumes - run.volumes.length) * run.trS)} left` : "";
    setText(this.time.value, elapsed === null ? "–" : clock(elapsed) + left);
  }

  /** How long the scanner has been silent, in TRs: only while a run is on can it be too long. */
  #heartbeat(session, state, view) {
    const run = session.runs[session.run];
    const scanning = state === "LIVE" && view.settled && !(run.volumes.length >= run.nVolumes && run.nVolumes);
    const silence = session.lastVolumeT === null ? null : view.now - session.lastVolumeT;
    const trs = scanning && run.trS ? silence / run.trS : 0;
    const level = trs > RED_TR ? "red" : trs > AMBER_TR ? "amber" : "ok";
    let words = silence === null ? "none yet" : `${age(silence)} ago`;
    if (run?.ended && state === "WAITING") words = `run ${run.run} complete`;
    if (level !== "ok") words = `${level === "red" ? "■ silent" : "▲ late"} ${age(silence)} · ${trs.toFixed(1)} TR`;
    setText(this.last.value, words);
    setAttr(this.last.el.parentElement, "data-level", scanning ? level : "idle");
    const volumes = run ? run.volumes.length : 0;
    if (volumes !== this.#volumes && scanning && level !== "red") this.#pulse();
    this.#volumes = volumes;
  }

  /** One pulse per volume, none where motion is not wanted. */
  #pulse() {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    this.beat.animate(
      [{ transform: "scale(1.9)", opacity: 1 }, { transform: "scale(1)", opacity: 0.75 }],
      { duration: 450, easing: "ease-out" },
    );
  }
}

customElements.define("ms-header", HeaderBar);
