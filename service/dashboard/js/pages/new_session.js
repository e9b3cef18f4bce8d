// A new session: subject, decoder, protocol, dry run, and then what a console needs to send volumes.

import { bundle as bundleName } from "../model/format.js";
import { checkSession, consoleKey, getSubject, listSubjects, listVersions, newId, openSession, simulate } from "../net/api.js";
import { h, setText } from "../ui/dom.js";
import { action, checkbox, field, fill, form, input, select } from "../ui/forms.js";
import { Page } from "./page.js";

const SIGNS = { ok: "●", warning: "▲", failed: "✕" };
const NONE = "none";
const CALIBRATION = "calibration";

const number = (form, name) => (form.get(name).trim() === "" ? null : Number(form.get(name).replace(",", ".")));
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function accuracy(version) {
  return version.measured ? `${version.measured.accuracy.toFixed(2)} held out, n ${version.measured.n}` : "accuracy not known";
}

export class NewSession extends Page {
  constructor(subject, refused) {
    super("New session", refused, 0);
    this.wanted = subject;
    this.id = newId("ses"); // the same for every try, so that a repeat opens no second one
  }

  build() {
    this.subject = select("subject", [], { required: true });
    this.decoder = select("decoder", []);
    this.subject.addEventListener("change", () => this.#versions().catch((error) => this.notice.fail(error)));
    this.blinded = checkbox("blinded", "Blinded: what was shown is sent to nobody until the session is unblinded or closed");
    this.checks = h("ul", { class: "checks", "aria-live": "polite", "aria-label": "dry run" });
    this.open = h("button", { type: "button", class: "primary", id: "open", text: "Open the session", disabled: true });
    this.open.addEventListener("click", () => this.#open().catch((error) => this.notice.fail(error)));
    this.form = form(this.notice, "Dry run", (data) => this.#check(data),
      h("fieldset", {}, h("legend", { text: "1 · Subject and decoder" }),
        field("Subject", this.subject), h("a", { href: "#subjects", text: "Enrol a new subject" }), field("Decoder", this.decoder)),
      h("fieldset", { class: "grid" }, h("legend", { text: "2 · Protocol" }),
        field("Task", input("task", { value: "view", required: true, pattern: "[A-Za-z0-9]{1,64}" }), "letters and digits, as in BIDS"),
        field("TR, s", input("tr_s", { value: "1.5", required: true, inputmode: "decimal" })),
        field("Volumes in each run", input("n_volumes", { inputmode: "numeric" }), "empty if not known"),
        field("Runs", input("n_runs", { inputmode: "numeric" }), "empty if not known"),
        field("Fast result, s after onset", input("fast_s", { inputmode: "decimal", placeholder: "7.5" })),
        field("Revised result, s after onset", input("revised_s", { inputmode: "decimal", placeholder: "27.5" })),
        field("Usable data wanted, minutes", input("usable_min", { inputmode: "decimal" }), "the live page shows what is still needed"),
        this.blinded.element));
    this.form.addEventListener("change", () => this.#unchecked());
    this.result = h("div", { class: "opened" });
    return [this.form, this.checks, h("p", { class: "row" }, this.open), this.result];
  }

  async load() {
    const subjects = (await listSubjects()).reverse();
    fill(this.subject, subjects.map((s) => [s.subject, `${s.subject}${s.bundle ? ` · ${bundleName(s.bundle)}` : " · not calibrated"}`]));
    if (!subjects.length) return this.notice.fail("There is no subject yet: enrol one first.");
    if (this.wanted) this.subject.value = this.wanted;
    await this.#versions();
  }

  async #versions() {
    const [subject, held] = await Promise.all([getSubject(this.subject.value), listVersions(this.subject.value)]);
    const kept = held.versions.filter((v) => !v.removed).reverse();
    const options = kept.map((v) => [v.bundle, `version ${v.number}${v.bundle === subject.bundle ? ", active" : ""} · ${accuracy(v)}`]);
    if (subject.bundle && !kept.some((v) => v.bundle === subject.bundle)) options.unshift([subject.bundle, bundleName(subject.bundle)]);
    options.push([CALIBRATION, "none yet: calibrate from this session while it is scanned"], [NONE, "none: motion, signal and betas only"]);
    this.decoder.replaceChildren();
    fill(this.decoder, options);
    this.decoder.value = subject.bundle ?? CALIBRATION;
    this.#unchecked();
  }

  #unchecked() {
    this.open.disabled = true;
    this.checks.replaceChildren();
  }

  #body(data) {
    const chosen = data.get("decoder");
    const decodes = chosen !== NONE && chosen !== CALIBRATION;
    const options = { blinded: this.blinded.box.checked };
    for (const name of ["fast_s", "revised_s", "usable_min"]) if (number(data, name) !== null) options[name] = number(data, name);
    return {
      subject: data.get("subject"), session: this.id, bundle: decodes ? chosen : null, decoding: decodes,
      calibration: chosen === CALIBRATION, options,
      protocol: { task: data.get("task"), tr_s: number(data, "tr_s"), n_volumes: number(data, "n_volumes"), n_runs: number(data, "n_runs") },
    };
  }

  async #check(data) {
    this.notice.say("");
    this.body = this.#body(data);
    const outcome = await checkSession({ ...this.body, client_t: Date.now() / 1000 });
    this.checks.replaceChildren(...outcome.checks.map((check) =>
      h("li", { "data-level": check.state }, h("span", { class: "sign", text: `${SIGNS[check.state]} ${check.name}` }), h("span", { text: check.text }))));
    this.open.disabled = !outcome.ready;
    if (outcome.ready) this.open.focus();
    else this.notice.fail("The dry run found what would keep the session from working: see the ✕ below.");
  }

  async #open() {
    const record = await openSession(this.body);
    this.form.inert = true;
    this.open.disabled = true;
    const { key } = await consoleKey(record.session);
    this.result.replaceChildren(...this.#console(record, key));
    this.result.querySelector("h2").focus();
    this.notice.say(`Session ${record.session} is open.`);
  }

  /** What a console needs, and where to go from here. */
  #console(record, key) {
    const n = record.protocol?.n_volumes;
    const command = `MINDSIGHT_KEY=${key} mindsight stream ${quoted(`watch:/export${n ? `?n=${n}` : ""}`)}`
      + ` --session ${record.session} --to ${location.origin} --task ${record.protocol?.task ?? "view"}`;
    const text = h("textarea", { id: "command", readonly: true, rows: "3", spellcheck: "false" });
    text.value = command;
    this.speed = input("speed", { type: "number", min: "1", max: "1000", value: "4" });
    const live = `#session=${encodeURIComponent(record.session)}`;
    return [
      h("h2", { tabindex: "-1", text: `3 · Session ${record.session} is open` }),
      field("On the scanner's console", text,
        "The key opens this session only, for 12 hours, and is shown once. Instead of watch:/export, cstore:// afni:// murfi:// or mrd://."),
      h("p", { class: "row" },
        action("Copy the command", this.notice, async () => {
          await navigator.clipboard.writeText(command);
          this.notice.say("Copied.");
        }),
        field("Simulated scanner, times real time", this.speed),
        action("Simulate the scanner", this.notice, () => this.#simulate(record, live), { id: "simulate-scanner" }),
        h("a", { class: "button primary", href: live, text: "Go to the live page" }),
        record.bundle || !this.body.calibration ? "" : h("a", { class: "button", href: `#calibrate=${record.subject}`, text: "Calibrate from it" })),
    ];
  }

  async #simulate(record, live) {
    this.simulation ??= newId("sim");
    await simulate({ session: record.session, job: this.simulation, runs: record.protocol?.n_runs ?? 2,
      close: false, speed: Number(this.speed.value) || 4 });
    setText(this.notice.element, "The simulated scanner has begun.");
    location.hash = live;
  }
}
