// Asks for the API key if neither the address nor the tab has one; where the site has a sign-in, offers that too.

import { hasSignIn } from "../net/api.js";
import { h } from "../ui/dom.js";

export class KeyForm {
  constructor(reason, taken) {
    this.input = h("input", {
      type: "password", id: "key", name: "key", autocomplete: "off", spellcheck: "false", required: true,
      placeholder: "ms_…",
    });
    this.element = h("form", { class: "key-form" },
      h("h1", { text: "Mindsight" }),
      reason ? h("p", { class: "problem", role: "alert", text: reason }) : "",
      h("label", { for: "key", text: "API key" }),
      this.input,
      h("button", { type: "submit", text: "Open" }),
      h("p", { class: "hint", text: "The service printed it once, at its first start. The key stays in this tab." }),
      (this.signIn = h("a", { class: "button sign-in", href: "/v1/sign-in", text: "Sign in with your account", hidden: "" })),
    );
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      taken(this.input.value.trim());
    });
  }

  start() {
    this.input.focus();
    hasSignIn().then((has) => { this.signIn.hidden = !has; }, () => {}); // a service that is away says so itself
  }

  stop() {}
}
