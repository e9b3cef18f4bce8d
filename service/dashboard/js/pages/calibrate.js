// Calibrating a subject: what to make the decoder of, how far it is, how it learned, and whether to keep it.

import { duration, plural } from "../model/format.js";
import {
  activateVersion, jobMessages, listCalibrations, listPools, listSessions, listSubjects, listVersions, newId, rollBack, startCalibration,
} from "../net/api.js";
import { h } from "../ui/dom.js";
import { action, checkbox, field, fill, form, select } from "../ui/forms.js";
import { jobLine } from "../ui/job.js";
import { openReport } from "../ui/report.js";
import { learningCurve, tuningCurve } from "../ui/curve.js";
import { table } from "../ui/table.js";
import { Page } from "./page.js";
import { measuredText } from "./subject.js";

const ARCHIVED = "archived";

export class CalibratePage extends Page {
  #after = 0;
  #messages = [];
  #job;

  constructor(subject, refused) {
    super("Calibrate", refused, 2000);
    this.wanted = subject;
  }

  build() {
    this.subject = select("subject", []);
    this.subject.addEventListener("change", () => this.#choose());
    this.source = select("source", []);
    this.pool = select("pool", []);
    this.tuning = checkbox("fine_tuning", "Gradient steps after the closed form (needs a pool and a shared backbone)");
    this.keep = checkbox("keep", "Activate the version if it is not worse than the active one", true);
    this.plan = form(this.notice, "Start the calibration", () => this.#start(), h("fieldset", {}, h("legend", { text: "What the decoder is made of" }),
      field("Subject", this.subject), field("From", this.source), field("Candidates", this.pool), this.tuning.element, this.keep.element));
    this.progress = h("div");
    this.curve = h("div");
    this.made = h("div");
    this.notes = h("ul", { class: "checks" });
    const sheet = (title, ...children) => h("section", { class: "sheet" }, h("h2", { text: title }), ...children);
    return [h("div", { class: "pair-of-sheets" }, sheet("Plan", this.plan), sheet("Progress", this.progress, this.notes)),
      h("div", { class: "pair-of-sheets" }, sheet("Learning curve", this.curve), sheet("Versions", this.made))];
  }

  async load() {
    if (!this.planned) await this.#offer();
    if (!this.subject.value) return;
    const [jobs, held] = await Promise.all([listCalibrations(this.subject.value), listVersions(this.subject.value)]);
    const job = jobs.at(-1) ?? null;
    if (this.#job === undefined || job?.job !== this.#job?.job) this.#follow(job);
    if (job) await this.#read(job);
    this.#drawVersions(held);
  }

  async #offer() {
    const subjects = (await listSubjects()).reverse();
    fill(this.subject, subjects.map((s) => [s.subject, s.subject]));
    if (!subjects.length) return this.notice.fail("There is no subject yet: enrol one first.");
    if (this.wanted) this.subject.value = this.wanted;
    await this.#sources();
    this.planned = true;
  }

  async #sources() {
    const [own, pools] = await Promise.all([this.subject.value ? listSessions(this.subject.value) : [], listPools()]);
    const archived = own.filter((s) => s.state === "archived");
    const live = own.filter((s) => s.state === "open" && !s.bundle && s.options.normalise === "run").reverse();
    fill(this.source, [...live.map((s) => [s.session, `${s.session}, while it is scanned`]),
      [ARCHIVED, archived.length ? `all that are archived: ${plural(archived.length, "session")}` : "archived sessions: none yet"]]);
    if (live.length) this.source.value = live[0].session;
    fill(this.pool, [["", "the labels of the events"], ...pools.map((p) => [p.pool, `pool ${p.pool}, ${p.size} images`])]);
    if (pools.length) this.pool.value = pools.at(-1).pool;
  }

  async #choose() {
    this.shown = "";
    await this.#sources().catch((error) => this.notice.fail(error));
    await this.reload();
  }

  async #start() {
    const live = this.source.value === ARCHIVED ? null : this.source.value;
    const job = await startCalibration(this.subject.value, {
      live, pool: this.pool.value || null, fine_tuning: this.tuning.box.checked,
      activate: this.keep.box.checked ? "better" : "never", job: newId("cal"),
    });
    this.notice.say(`Job ${job.job} has begun.`);
    await this.reload();
  }

  #follow(job) {
    this.#job = job;
    this.#after = 0;
    this.#messages = [];
    this.line?.remove();
    this.line = job && jobLine(job, this.notice);
    this.progress.replaceChildren(this.line ?? h("p", { class: "caption", text: "Not calibrated yet. A decoder needs at least 12 labelled trials, some of them repeats." }));
    this.#drawMessages();
  }

  async #read(job) {
    const found = await jobMessages(job.job, this.#after);
    if (!found.length) return;
    this.#after = found.at(-1).id;
    this.#messages.push(...found);
    this.#drawMessages();
  }

  #drawMessages() {
    const points = this.#messages.filter((m) => m.type === "job.learned");
    this.curve.replaceChildren(learningCurve(points), tuningCurve(this.#messages.filter((m) => m.type === "job.tuned")));
    const notes = this.#messages.filter((m) => m.type === "job.note");
    const ended = this.#messages.findLast((m) => m.type === "job.ended");
    const began = this.#messages.find((m) => m.type === "job.began");
    this.notes.replaceChildren(...notes.map((m) => h("li", { "data-level": m.level === "info" ? "ok" : "warning", text: m.text })),
      ...(ended ? [h("li", { "data-level": ended.outcome === "done" ? "ok" : "failed",
        text: `${ended.outcome}: ${ended.text}${began ? ` (${duration((ended.t - began.t) * 1000)})` : ""}` })] : []));
  }

  #drawVersions(held) {
    const shown = JSON.stringify(held);
    if (shown === this.shown) return;
    this.shown = shown;
    const active = held.activated.at(-1);
    const rows = [...held.versions].reverse().filter((v) => !v.removed).map((v) => [
      `${v.number}${v.number === active ? " ● active" : ""}`, measuredText(v.measured), v.verdict,
      h("span", { class: "row" }, ...this.#decisions(v, v.number === active, held.activated.length > 1)),
    ]);
    this.made.replaceChildren(table("versions", ["Version", "Held-out accuracy", "Verdict", ""], rows, "No version yet."));
  }

  #decisions(version, isActive, mayGoBack) {
    const about = ` version ${version.number}`;
    const report = action("Report", this.notice, () => openReport(`/v1/subjects/${this.subject.value}/bundles/${version.number}/report.html`, `Calibration of${about}`), { "aria-label": `Report of${about}` });
    const again = async (work, text) => {
      await work();
      this.notice.say(text);
      this.shown = "";
      await this.reload();
    };
    if (!isActive) return [report, action("Accept", this.notice, () => again(() => activateVersion(this.subject.value, version.number), `Version ${version.number} decodes new sessions.`), { "aria-label": `Accept${about}` })];
    return mayGoBack ? [report, action("Roll back", this.notice, () => again(() => rollBack(this.subject.value), "The version before it decodes new sessions."), { "aria-label": `Roll back${about}` })] : [report];
  }
}
