// Forms of the pages: labelled fields, buttons that cannot be pressed twice, and one line for what went wrong.

import { ApiError } from "../net/api.js";
import { h, setText } from "./dom.js";

/** A label over its control. `hint` is read with it. */
export function field(label, control, hint = "") {
  const id = control.id || (control.id = `field-${control.getAttribute("name")}`);
  const note = hint && h("span", { class: "caption", id: `${id}-hint`, text: hint });
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return h("div", { class: "field" }, h("label", { for: id, text: label }), control, note);
}

export const input = (name, props = {}) => h("input", { name, autocomplete: "off", ...props });

/** @param {[string, string][]} options value and text of each */
export const select = (name, options, props = {}) => {
  const el = h("select", { name, ...props });
  fill(el, options);
  return el;
};

/** Replaces the options and keeps what is chosen if it is still there. */
export function fill(el, options) {
  const chosen = el.value;
  el.replaceChildren(...options.map(([value, text]) => h("option", { value, text })));
  if (options.some(([value]) => value === chosen)) el.value = chosen;
}

export const checkbox = (name, label, checked = false) => {
  const box = h("input", { type: "checkbox", name, id: `field-${name}`, checked });
  return { box, element: h("div", { class: "field check" }, box, h("label", { for: `field-${name}`, text: label })) };
};

export const explain = (error) => (error instanceof ApiError ? error.message : "the server does not respond; try again");

/** Where a page says what went wrong, and what was done. */
export class Notice {
  constructor() {
    this.element = h("p", { class: "notice", role: "status" });
  }

  say(text) {
    delete this.element.dataset.level;
    setText(this.element, text);
  }

  fail(error) {
    this.element.dataset.level = "bad";
    setText(this.element, `✕ ${typeof error === "string" ? error : explain(error)}`);
  }
}

/** A button that does something once: disabled until it is done; what goes wrong is said in the notice. */
export function action(text, notice, work, props = {}) {
  const button = h("button", { type: "button", text, ...props });
  button.addEventListener("click", () => run(button, notice, work));
  return button;
}

/** A form whose submit button works like an action. */
export function form(notice, submit, work, ...children) {
  const button = h("button", { type: "submit", class: "primary", text: submit });
  const el = h("form", { class: "fields" }, ...children, h("div", { class: "row" }, button));
  el.addEventListener("submit", (event) => {
    event.preventDefault();
    run(button, notice, () => work(new FormData(el)));
  });
  return el;
}

async function run(button, notice, work) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true"); // not disabled: the focus would be lost
  try {
    await work();
  } catch (error) {
    notice.fail(error);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

/** Asks before something that cannot be undone: `word` has to be typed. Resolves to whether it was. */
export function confirmed(title, text, word) {
  const typed = input("confirm", { id: "confirm-word", spellcheck: "false" });
  const go = h("button", { type: "submit", class: "danger", value: "go", text: title, disabled: true });
  typed.addEventListener("input", () => { go.disabled = typed.value.trim() !== word; });
  const dialog = h("dialog", { class: "sheet", "aria-labelledby": "confirm-title" },
    h("form", { method: "dialog", class: "fields" }, h("h2", { id: "confirm-title", text: title }), h("p", { text }),
      field(`Type ${word} to confirm`, typed),
      h("div", { class: "row" }, go, h("button", { type: "submit", value: "", formnovalidate: true, text: "Cancel" }))));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => {
    dialog.remove();
    done(dialog.returnValue === "go" && typed.value.trim() === word);
  }));
}
