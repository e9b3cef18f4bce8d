// One subject: consent, versions of its decoder, sessions, export, erasure.

import { bundle as bundleName, timeOfDay } from "../model/format.js";
import {
  activateVersion, download, eraseSession, eraseSubject, getSubject, jobMessages, listSessions, listVersions, ownKey, rollBack, stateConsent,
} from "../net/api.js";
import { h } from "../ui/dom.js";
import { action, confirmed, form } from "../ui/forms.js";
import { jobLine } from "../ui/job.js";
import { openReport } from "../ui/report.js";
import { table } from "../ui/table.js";
import { Page } from "./page.js";
import { consentFields } from "./subjects.js";

const when = (t) => `${new Date(t * 1000).toLocaleDateString()} ${timeOfDay(t)}`;

/** "0.82 [0.71, 0.90], n 60, chance 0.01". */
export const measuredText = (m) => (m
  ? `${m.accuracy.toFixed(2)} [${m.low.toFixed(2)}, ${m.high.toFixed(2)}], n ${m.n}, chance ${Number(m.chance.toPrecision(2))}`
  : "not known");

export class SubjectPage extends Page {
  constructor(subject, refused) {
    super(subject, refused);
    this.subject = subject;
  }

  build() {
    this.overview = h("p", { class: "row" });
    this.versions = h("div");
    this.sessions = h("div");
    this.consent = h("div");
    this.erasure = h("div");
    this.back = action("Roll back", this.notice, async () => {
      const { bundle } = await rollBack(this.subject);
      this.notice.say(`New sessions are decoded with ${bundleName(bundle)}.`);
      await this.#again();
    });
    this.erase = action("Erase this subject …", this.notice, () => this.#erase(), { class: "danger" });
    const sheet = (title, ...children) => h("section", { class: "sheet" }, h("h2", { text: title }), ...children);
    this.body = h("div", { class: "stack" }, this.overview, sheet("Versions of the decoder", this.versions, h("p", { class: "row" }, this.back)),
      sheet("Sessions", this.sessions), sheet("Consent", this.consent));
    this.end = sheet("Erasure", h("p", { class: "caption", text: "Removes sessions, archives, decoders, jobs, and what only they refer to. It cannot be undone. What left this machine, such as exports, is not reached." }),
      h("p", { class: "row" }, this.erase), this.erasure);
    return [this.body, this.end];
  }

  async #again() {
    this.shown = "";
    await this.reload();
  }

  async load() {
    if (this.isErased) return;
    this.key ??= await ownKey();
    const [subject, held, sessions] = await Promise.all([getSubject(this.subject), listVersions(this.subject), listSessions(this.subject)]);
    const shown = JSON.stringify([subject, held, sessions]);
    if (shown === this.shown) return;
    this.shown = shown;
    const may = (scope) => this.key.scopes.includes(scope);
    this.end.hidden = !may("admin");
    this.#drawOverview(subject, may);
    this.#drawVersions(subject, held, may);
    this.#drawSessions(sessions.reverse(), may);
    this.#drawConsent(subject, may("subjects:write"));
  }

  #drawOverview(subject, may) {
    this.overview.replaceChildren(h("span", { text: `enrolled ${when(subject.enrolled_t)}` }),
      h("span", { text: subject.bundle ? `decoded by ${bundleName(subject.bundle)}` : "not calibrated" }),
      ...(may("sessions:control") ? [h("a", { class: "button", href: `#new=${this.subject}`, text: "New session" })] : []),
      ...(may("subjects:write") ? [h("a", { class: "button", href: `#calibrate=${this.subject}`, text: "Calibrate" })] : []));
  }

  #drawVersions(subject, held, may) {
    const active = held.activated.at(-1);
    this.back.hidden = held.activated.length < 2 || !may("subjects:write");
    this.versions.replaceChildren(table("versions", ["Version", "Held-out accuracy", "Made of", "Verdict", "Made", ""], [...held.versions].reverse().map((v) => [
      `${v.number}${v.number === active ? " ● active" : ""}`, measuredText(v.measured), `${v.n_runs} runs, ${v.n_trials} trials`,
      v.removed ? "files removed" : v.verdict, when(v.created_t), this.#actionsOf(v, v.number === active, may),
    ]), "No version yet: calibrate."));
  }

  #actionsOf(version, isActive, may) {
    const about = ` version ${version.number}`;
    const buttons = [];
    if (!isActive && may("subjects:write")) {
      buttons.push(action("Activate", this.notice, async () => {
        await activateVersion(this.subject, version.number);
        this.notice.say(`Version ${version.number} decodes new sessions.`);
        await this.#again();
      }, { "aria-label": `Activate${about}` }));
    }
    const base = `/v1/subjects/${this.subject}/bundles/${version.number}`;
    if (may("truth:read")) buttons.push(action("Report", this.notice, () => openReport(`${base}/report.html`, `Calibration of${about}`), { "aria-label": `Report of${about}` }));
    if (may("subjects:export")) buttons.push(action("Export", this.notice, () => download(`${base}/export`, `${version.bundle}.tar`), { "aria-label": `Export${about}` }));
    return h("span", { class: "row" }, ...(version.removed ? [] : buttons));
  }

  #drawSessions(sessions, may) {
    this.sessions.replaceChildren(table("sessions", ["Session", "State", "Decoded by", "Opened", ""], sessions.map((s) => [
      h("a", { href: `#session=${encodeURIComponent(s.session)}`, text: s.session }), s.state, s.bundle ? bundleName(s.bundle) : "nothing", when(s.opened_t),
      h("span", { class: "row" }, ...this.#reviewsOf(s, may)),
    ]), "No session yet."));
  }

  #reviewsOf({ session, state }, may) {
    const base = `/v1/sessions/${encodeURIComponent(session)}`;
    const shown = [];
    if (state !== "open") shown.push(h("a", { class: "button", href: `#replay=${encodeURIComponent(session)}`, text: "Replay", "aria-label": `Replay ${session}` }));
    if (state === "archived" && may("truth:read")) shown.push(action("Report", this.notice, () => openReport(`${base}/report.html`, `Session ${session}`), { "aria-label": `Report of ${session}` }));
    if (state === "archived" && may("subjects:export")) shown.push(action("Export", this.notice, () => download(`${base}/export`, `${this.subject}_${session}.tar`), { "aria-label": `Export ${session}` }));
    if (state === "archived" && may("admin")) shown.push(action("Erase …", this.notice, () => this.#eraseSession(session), { class: "danger", "aria-label": `Erase ${session}` }));
    return shown;
  }

  #drawConsent(subject, may) {
    const stated = subject.consent ? `Form ${subject.consent.form}: ${Object.keys(subject.consent.uses).join(", ") || "withdrawn"}.` : "Not stated.";
    const fields = consentFields(subject.consent);
    this.consent.replaceChildren(h("p", { text: stated }), ...(may ? [form(this.notice, "State this consent", async () => {
      await stateConsent(this.subject, fields.read());
      this.notice.say("The consent holds from the next request on.");
      await this.#again();
    }, h("fieldset", { class: "grid" }, h("legend", { text: "In place of what was stated" }), ...fields.elements))] : []));
  }

  async #erase() {
    if (!await confirmed("Erase", "All data of this subject on this machine are removed. It cannot be undone.", this.subject)) return;
    const job = await eraseSubject(this.subject);
    this.isErased = true; // from here on every other request would say that there is no such subject
    this.body.hidden = true;
    this.erase.hidden = true;
    this.erasure.replaceChildren(jobLine(job, this.notice, async (now) => {
      if (await this.#erased(now, "the pseudonym and its sessions")) this.heading.focus();
    }));
  }

  async #eraseSession(session) {
    if (!await confirmed("Erase", "The session, its archive, and every version that was calibrated from it are removed. It cannot be undone.", session)) return;
    const job = await eraseSession(session);
    this.erasure.replaceChildren(jobLine(job, this.notice, async (now) => {
      if (await this.#erased(now, "the session")) await this.#again();
    }));
  }

  /** The proof: what the job says that it removed and looked for. Whether it is done. */
  async #erased(job, what) {
    if (!["done", "failed"].includes(job.state)) return false;
    const ended = (await jobMessages(job.job, 0)).findLast((message) => message.type === "job.ended");
    if (job.state === "failed") {
      this.notice.fail(ended?.text ?? "The erasure failed; resume it.");
      return false;
    }
    this.notice.say(`✓ Erased: ${ended?.text ?? "done"}. The bus and the data folder were searched for ${what}.`);
    return true;
  }
}
