// Subjects and candidate pools: enrolling, stating consent, uploading stimuli.

import { bundle as bundleName, count, timeOfDay } from "../model/format.js";
import { buildPool, enrol, listJobs, listPools, listSubjects, newId, ownKey, uploadImage } from "../net/api.js";
import { h } from "../ui/dom.js";
import { checkbox, field, form, input } from "../ui/forms.js";
import { table } from "../ui/table.js";
import { jobLine } from "../ui/job.js";
import { Page } from "./page.js";

const USES = [["decoding", "decode"], ["calibration", "calibrate"], ["export", "export"], ["pretraining", "train a shared model"]];
const AT_A_TIME = 6; // uploads

const when = (t) => `${new Date(t * 1000).toLocaleDateString()} ${timeOfDay(t)}`;

/** The fields of a consent; `read` gives what is to be sent. */
export function consentFields(consent = null) {
  const boxes = USES.map(([use, text]) => [use, checkbox(`use-${use}`, `to ${text}`, consent ? use in consent.uses : use !== "pretraining")]);
  const version = input("consent-form", { required: true, value: consent?.form ?? "v1", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,63}" });
  const elements = [...boxes.map(([, { element }]) => element), field("Version of the signed form", version, "never a name")];
  const read = () => ({
    uses: Object.fromEntries(boxes.filter(([, { box }]) => box.checked).map(([use]) => [use, consent?.uses[use] ?? "laboratory"])),
    form: version.value.trim(),
  });
  return { elements, read };
}

export class Subjects extends Page {
  constructor(_, refused) {
    super("Subjects and pools", refused);
  }

  build() {
    const consent = consentFields();
    this.enrolling = form(this.notice, "Enrol", async () => {
      const { subject } = await enrol({ consent: consent.read() });
      this.notice.say(`${subject} is enrolled. Keep the table of persons and pseudonyms elsewhere.`);
      location.hash = `#subject=${subject}`;
    }, h("fieldset", { class: "grid" }, h("legend", { text: "Consent of the new subject" }), ...consent.elements));
    this.subjects = h("div");
    this.pools = h("div");
    const files = input("files", { type: "file", accept: "image/png,image/jpeg", multiple: true, required: true });
    const name = input("pool", { required: true, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,63}" });
    this.building = form(this.notice, "Upload and build", () => this.#build(name.value.trim(), [...files.files]),
      field("Name of the pool", name, "letters, digits, . _ -"), field("Stimuli", files, "PNG or JPEG; a file's name without its ending names the candidate"));
    this.enrolCard = h("section", { class: "sheet" }, h("h2", { text: "Enrol a subject" }), this.enrolling);
    this.poolCard = h("section", { class: "sheet" }, h("h2", { text: "Candidate pools" }), this.pools, this.building);
    return [h("section", { class: "sheet" }, h("h2", { text: "Subjects" }), this.subjects), h("div", { class: "pair-of-sheets" }, this.enrolCard, this.poolCard)];
  }

  async load() {
    this.key ??= await ownKey();
    const [subjects, pools, jobs] = await Promise.all([listSubjects(), listPools(), listJobs()]);
    const may = this.key.scopes.includes("subjects:write");
    this.enrolling.hidden = this.building.hidden = !may;
    const shown = JSON.stringify([subjects, pools, jobs]);
    if (shown === this.shown) return;
    this.shown = shown;
    this.subjects.replaceChildren(table("subjects", ["Pseudonym", "Decoded by", "Consent", "Enrolled"], subjects.reverse().map((s) => [
      h("a", { href: `#subject=${s.subject}`, text: s.subject }), s.bundle ? bundleName(s.bundle) : "not calibrated",
      s.consent ? `${Object.keys(s.consent.uses).join(", ") || "withdrawn"} (form ${s.consent.form})` : "not stated", when(s.enrolled_t),
    ]), "No subject yet: enrol one below."));
    this.pools.replaceChildren(table("candidate pools", ["Pool", "Candidates"], pools.map((p) => [p.pool, p.size === null ? "cannot be read" : count(p.size)]), "No pool yet."),
      ...jobs.filter((job) => job.task.kind === "pool" && job.state !== "done").map((job) => jobLine(job, this.notice)));
  }

  async #build(pool, files) {
    const images = [];
    for (let at = 0; at < files.length; at += AT_A_TIME) {
      this.notice.say(`Uploading ${at} of ${files.length} …`);
      images.push(...await Promise.all(files.slice(at, at + AT_A_TIME).map(async (file) =>
        ({ id: file.name.replace(/\.[^.]*$/, ""), image: await uploadImage(file) }))));
    }
    const { job } = await buildPool({ pool, images, job: newId("pool") });
    this.notice.say(`${files.length} images are uploaded; job ${job} builds the pool ${pool}.`);
    await this.reload();
  }
}
