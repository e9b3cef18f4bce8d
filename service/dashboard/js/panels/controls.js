// What an experimenter does with a session while it runs: start and stop, pause, mark, blind, feed back; with keys.
//
// Each instruction is pending until the service has it, then acknowledged, and logged once the worker's own message about
// it has come through the session's log.

import { samePlan } from "../model/feedback.js";
import { age } from "../model/format.js";
import { chooseFeedback, closeSession, endRun, getSession, instruct, newId, ownKey, startRun } from "../net/api.js";
import { h, setAttr, setText } from "../ui/dom.js";
import { explain } from "../ui/forms.js";
import { openReport } from "../ui/report.js";
import { KeysDialog, MarkDialog, RunDialog } from "./controls_dialogs.js";
import { FeedbackDialog } from "./feedback_dialog.js";

const HOLD_MS = 1000; // a run is not ended by a slip
const SHOWN_MS = 7000; // how long what was logged stays to be read
const LATE_MS = 8000; // without a word of the worker
const SHOWN = 3;

const spot = (taken) => (taken.run ? `, run ${taken.run}, before volume ${taken.index}` : "");

/** A button of the header: a sign, a word where there is room, and its key. */
function button(name, sign, word, key, pressed) {
  const text = h("span", { class: "word", text: word });
  const el = h("button", { type: "button", class: `control ${name}`, "data-name": name }, h("span", { "aria-hidden": "true", text: sign }), text, h("kbd", { "aria-hidden": "true", text: key }));
  el.addEventListener("click", pressed);
  return { el, text };
}

class Controls extends HTMLElement {
  #sent = new Map(); // by id: {what, state, at, text}
  #holding = null;

  connectedCallback() {
    if (!this.bar) this.#build();
    addEventListener("keydown", this.#down);
    addEventListener("keyup", this.#up);
  }

  disconnectedCallback() {
    removeEventListener("keydown", this.#down);
    removeEventListener("keyup", this.#up);
    this.#release();
  }

  #build() {
    this.hidden = true;
    this.start = button("start", "▶", "Start", "S", () => this.#start());
    this.pause = button("pause", "❚❚", "Pause", "P", () => this.#pause());
    this.mark = button("mark", "⚑", "Mark", "M", () => this.markDialog.open());
    this.blind = button("blind", "◧", "Blind", "B", () => this.#blind());
    this.feedback = button("feedback", "◉", "Feedback", "F", () => this.#choose());
    this.stop = button("stop", "■", "Stop", "hold X", () => {});
    this.help = button("help", "?", "Keys", "?", () => this.keysDialog.open());
    this.stop.el.addEventListener("pointerdown", () => this.#hold());
    for (const end of ["pointerup", "pointerleave", "blur"]) this.stop.el.addEventListener(end, () => this.#release());
    this.stop.el.addEventListener("keydown", (event) => [" ", "Enter"].includes(event.key) && !event.repeat && this.#hold());
    this.stop.el.addEventListener("keyup", (event) => [" ", "Enter"].includes(event.key) && this.#release());
    this.markDialog = new MarkDialog((text) => this.#send("mark", "Mark", { text: text || null }));
    this.runDialog = new RunDialog((plan) => this.#begin(plan));
    this.feedbackDialog = new FeedbackDialog((plan) => this.#feedBack(plan));
    this.keysDialog = new KeysDialog();
    this.buttons = [this.start, this.pause, this.mark, this.blind, this.feedback, this.stop, this.help];
    this.bar = h("div", { class: "bar", role: "toolbar", "aria-label": "session" }, ...this.buttons.map(({ el }) => el));
    this.replayed = h("a", { class: "button", text: "Replay" });
    this.report = h("button", { type: "button", text: "Report", onclick: () => this.#report() });
    this.review = h("div", { class: "bar review" }, this.replayed, this.report);
    this.said = h("ol", { class: "sent", "aria-live": "polite", "aria-label": "instructions" });
    this.append(this.bar, this.review, this.said, this.markDialog.element, this.runDialog.element, this.feedbackDialog.element, this.keysDialog.element);
  }

  update(view) {
    if (this.name !== view.name) this.#ask(view.name);
    this.view = view;
    const { session } = view;
    this.bar.hidden = !this.may || session.closedT !== null || view.replay !== null;
    this.review.hidden = session.archive === null || view.replay !== null;
    this.report.hidden = !this.seesTruth;
    setAttr(this.replayed, "href", `#replay=${encodeURIComponent(view.name)}&speed=10`);
    this.hidden = this.bar.hidden && this.review.hidden;
    for (const [id, sent] of this.#sent) this.#follow(id, sent, session);
    this.#drawSent();
    const run = session.runs[session.run];
    const runs = Boolean(run && !run.ended);
    this.start.el.disabled = runs;
    setText(this.start.text, runs ? `Run ${run.run} is on` : `Start run ${this.#nextRun()}`);
    setText(this.stop.text, runs ? `Stop run ${run.run}` : "Close the session");
    setText(this.pause.text, session.paused ? "Decode again" : "Pause decoding");
    setAttr(this.pause.el, "data-on", session.paused ? "" : null);
    setText(this.blind.text, session.blinded ? "Unblind" : "Blind");
    setAttr(this.blind.el, "data-on", session.blinded ? "" : null);
    this.pause.el.hidden = !session.bundle;
    for (const { el, text } of this.buttons) {
      setAttr(el, "title", text.textContent);
      setAttr(el, "aria-label", text.textContent);
    }
  }

  async #ask(name) {
    this.name = name;
    this.may = false;
    try {
      const [record, key] = await Promise.all([getSession(name), ownKey()]);
      this.record = record;
      this.may = key.scopes.includes("sessions:control");
      this.seesTruth = key.scopes.includes("truth:read");
    } catch {
      this.name = null; // the page reports what is wrong with the connection; asked again with the next view
    }
  }

  #nextRun = () => Math.max(0, ...Object.keys(this.view?.session.runs ?? {}).map(Number)) + 1;

  #start() {
    if (this.start.el.disabled) return;
    const plan = this.record.protocol;
    if (plan) this.#begin(plan);
    else this.runDialog.open(this.#nextRun());
  }

  #begin({ task, tr_s, n_volumes }) {
    const run = this.#nextRun();
    this.#post(`run-${run}`, `Start of run ${run}`, () => startRun(this.name, { run, task, tr_s, n_volumes }));
  }

  #pause() {
    if (this.pause.el.hidden) return;
    const { paused } = this.view.session;
    this.#send(paused ? "resume" : "pause", paused ? "Decoding again" : "Pause of decoding");
  }

  #blind() {
    const { blinded } = this.view.session;
    this.#send(blinded ? "unblind" : "blind", blinded ? "Unblinding" : "Blinding");
  }

  #send(instruction, what, more = {}) {
    const change = newId(instruction);
    this.#post(change, what, () => instruct(this.name, { instruction, change, ...more }));
  }

  #choose() {
    this.feedbackDialog.open(this.name, this.view.session.feedback);
  }

  #feedBack(plan) {
    const isLogged = ({ feedback }) => (samePlan(feedback, plan) ? {} : null);
    this.#post(newId("feedback"), "Feedback", () => chooseFeedback(this.name, plan), isLogged);
  }

  #end() {
    const run = this.view.session.runs[this.view.session.run];
    if (run && !run.ended) this.#post(`run-${run.run}-ended`, `Stop of run ${run.run}`, () => endRun(this.name, run.run));
    else this.#post("session-closed", "Closing the session", () => closeSession(this.name));
  }

  async #report() {
    try {
      await openReport(`/v1/sessions/${encodeURIComponent(this.name)}/report.html`, `Session ${this.name}`);
    } catch (error) {
      this.#sent.set("report", { what: "Report", state: "failed", at: Date.now(), text: explain(error) });
    }
    this.#drawSent();
  }

  /** `taken(session)`: where the session's log has it, {run, index}, or nothing. */
  async #post(id, what, request, taken = (session) => session.instructed[id]) {
    const sent = { what, state: "pending", at: Date.now(), text: "pending …", taken };
    this.#sent.set(id, sent);
    this.#drawSent();
    try {
      await request();
      if (sent.state === "pending") Object.assign(sent, { state: "acknowledged", at: Date.now(), text: "acknowledged" });
    } catch (error) {
      Object.assign(sent, { state: "failed", at: Date.now(), text: explain(error) });
    }
    this.#drawSent();
  }

  /** What the log says of an instruction that was sent. */
  #follow(id, sent, session) {
    const taken = sent.taken?.(session);
    if (taken && sent.state !== "logged") Object.assign(sent, { state: "logged", at: Date.now(), text: `logged${spot(taken)}` });
    const waited = Date.now() - sent.at;
    if (sent.state === "acknowledged" && waited > LATE_MS) sent.text = `acknowledged; no worker has taken it for ${age(waited / 1000)}`;
    if (["logged", "failed"].includes(sent.state) && waited > SHOWN_MS) this.#sent.delete(id);
  }

  #drawSent() {
    const sent = [...this.#sent.values()].slice(-SHOWN);
    const text = JSON.stringify(sent.map(({ what, state, text: said }) => [what, state, said]));
    if (text === this.drawn) return;
    this.drawn = text;
    const signs = { pending: "◌", acknowledged: "●", logged: "✓", failed: "✕" };
    this.said.replaceChildren(...sent.map(({ what, state, text: said }) => h("li", { "data-state": state, text: `${signs[state]} ${what}: ${said}` })));
  }

  #hold() {
    if (this.#holding) return;
    this.stop.el.classList.add("held");
    this.#holding = setTimeout(() => {
      this.#release();
      this.#end();
    }, HOLD_MS);
  }

  #release() {
    clearTimeout(this.#holding);
    this.#holding = null;
    this.stop?.el.classList.remove("held");
  }

  #down = (event) => {
    // what has just been closed has the focus until the browser's next turn
    const isTyped = event.target.closest?.("dialog[open], :is(input, textarea, select):not(dialog:not([open]) *)");
    if (this.bar.hidden || isTyped || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const act = { s: () => this.#start(), p: () => this.#pause(), m: () => this.markDialog.open(), b: () => this.#blind(), f: () => this.#choose(), x: () => this.#hold(), "?": () => this.keysDialog.open() }[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  };

  #up = (event) => {
    if (event.key.toLowerCase() === "x") this.#release();
  };
}

customElements.define("ms-controls", Controls);
