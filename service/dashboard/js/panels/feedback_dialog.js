// What the participant is shown of each trial: chosen here, shown by the participant's screen and by nothing else.

import { FEEDBACK } from "../model/feedback.js";
import { h } from "../ui/dom.js";
import { field, input, select } from "../ui/forms.js";
import { dialog } from "./controls_dialogs.js";

const SHOWS = [
  ["nothing", "nothing: the cross"], ["reconstruction", "reconstruction"], ["candidate", "candidate’s name"],
  ["confidence", "bar of the probability"],
];
const STAGES = [["fast", "fast"], ["revised", "revised"], ["final", "final"]];
const INSTEAD = [["nothing", "the fixation cross"], ["text", "a text"], ["hold", "what was shown before stays"]];
const CORNERS = [
  ["none", "none"], ["top-left", "top left"], ["top-right", "top right"], ["bottom-left", "bottom left"], ["bottom-right", "bottom right"],
];

const seconds = (id, most) => input(id, { id, type: "number", required: true, min: "0.1", max: String(most), step: "0.1" });

export class FeedbackDialog {
  /** @param {(plan: object) => void} send what was chosen, as the gateway takes it */
  constructor(send) {
    this.show = select("show", SHOWS, { id: "feedback-show" });
    this.stage = select("stage", STAGES, { id: "feedback-stage" });
    this.deadline = seconds("feedback-deadline", 120);
    this.hold = seconds("feedback-hold", 60);
    this.instead = select("fallback", INSTEAD, { id: "feedback-fallback" });
    this.text = input("text", { id: "feedback-text", maxlength: "200" });
    this.patch = select("patch", CORNERS, { id: "feedback-patch" });
    this.instead.addEventListener("change", () => this.#askForText());
    this.wording = field("Text", this.text, "for the participant; never a name");
    this.where = h("p", { class: "caption" });
    this.element = dialog("Feedback to the participant", "Show from the next result on", () => send(this.#plan()),
      h("div", { class: "pairs" },
        field("Of each trial", this.show), field("Stage awaited", this.stage),
        field("Deadline, s after onset", this.deadline), field("Stays, s", this.hold),
        field("If it is not there by then", this.instead), this.wording,
        field("Photodiode's patch", this.patch)),
      this.where);
  }

  /** @param {?object} plan what was chosen last; null: nothing yet */
  open(session, plan) {
    if (this.element.open) return;
    const { show, stage, deadline_s: deadline, hold_s: hold, fallback, patch } = { ...FEEDBACK, ...plan };
    for (const [control, value] of [[this.show, show], [this.stage, stage], [this.deadline, deadline], [this.hold, hold],
      [this.instead, fallback.show], [this.text, fallback.text ?? ""], [this.patch, patch]]) control.value = value;
    this.#askForText();
    this.where.textContent = `The participant's screen: ${location.origin}/participant.html#session=${session} with a key of “mindsight key new participant”.`;
    this.element.returnValue = "";
    this.element.showModal();
  }

  #askForText() {
    const asks = this.instead.value === "text";
    this.text.required = asks;
    this.wording.hidden = !asks;
  }

  #plan() {
    const fallback = this.instead.value === "text" ? { show: "text", text: this.text.value.trim() } : { show: this.instead.value };
    return {
      show: this.show.value, stage: this.stage.value, deadline_s: Number(this.deadline.value), hold_s: Number(this.hold.value),
      fallback, patch: this.patch.value,
    };
  }
}
