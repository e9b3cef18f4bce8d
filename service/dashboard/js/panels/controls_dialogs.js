// The dialogs of the live page's controls: the text of a mark, a run that no protocol describes, the list of keys.

import { h } from "../ui/dom.js";
import { field, input } from "../ui/forms.js";

const KEYS = [
  ["S", "start the next run"], ["hold X", "stop the run; between runs, close the session"], ["P", "pause decoding, or decode again"],
  ["M", "mark this moment, with a text"], ["B", "blind, or unblind"], ["F", "choose what the participant is shown"], ["← →", "look back at trials, and forward"],
  ["Home", "the first trial"], ["Esc", "back to the newest trial"], [", .", "the crosshair, by volumes"],
  ["+ − 0", "charts closer, wider, the whole run"], ["?", "this list"],
];

/** A dialog with a form; what is typed in it is no key of the page. */
export function dialog(label, submit, send, ...children) {
  const form = h("form", { method: "dialog", class: "fields" }, h("h2", { text: label }), ...children,
    h("div", { class: "row" }, submit ? h("button", { type: "submit", class: "primary", value: "go", text: submit }) : "",
      h("button", { type: "submit", value: "", formnovalidate: true, text: submit ? "Cancel" : "Close" })));
  const element = h("dialog", { class: "sheet", "aria-label": label }, form);
  element.addEventListener("keydown", (event) => element.open && event.stopPropagation());
  element.addEventListener("close", () => element.returnValue === "go" && send());
  return element;
}

export class MarkDialog {
  constructor(send) {
    this.text = input("mark", { id: "mark-text", maxlength: "500" });
    this.element = dialog("Mark this moment", "Mark", () => send(this.text.value.trim()), field("Text", this.text, "for everyone who watches; never a name"));
  }

  open() {
    if (this.element.open) return;
    this.text.value = "";
    this.element.returnValue = "";
    this.element.showModal();
  }
}

export class RunDialog {
  constructor(send) {
    this.task = input("task", { id: "run-task", value: "view", required: true, pattern: "[A-Za-z0-9]{1,64}" });
    this.tr = input("tr_s", { id: "run-tr", value: "1.5", required: true, inputmode: "decimal" });
    this.volumes = input("n_volumes", { id: "run-volumes", inputmode: "numeric" });
    this.element = dialog("Start a run", "Start", () => send({
      task: this.task.value.trim(), tr_s: Number(this.tr.value.replace(",", ".")), n_volumes: this.volumes.value ? Number(this.volumes.value) : null,
    }), field("Task", this.task), field("TR, s", this.tr), field("Volumes", this.volumes, "empty if not known"));
  }

  open(run) {
    this.element.querySelector("h2").textContent = `Start run ${run}`;
    this.element.returnValue = "";
    this.element.showModal();
  }
}

export class KeysDialog {
  constructor() {
    this.element = dialog("Keys", "", () => {}, h("dl", { class: "keys" }, ...KEYS.flatMap(([key, what]) => [h("dt", {}, h("kbd", { text: key })), h("dd", { text: what })])));
  }

  open() {
    if (!this.element.open) this.element.showModal();
  }
}
