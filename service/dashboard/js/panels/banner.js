// What a person must know before reading anything else: this page is old, and how old.

import { h, setText } from "../dom.js";
import { age, timeOfDay } from "../format.js";

class Banner extends HTMLElement {
  connectedCallback() {
    if (this.said) return;
    this.said = h("span", { role: "alert" });
    this.counting = h("span", { "aria-hidden": "true" }); // changes four times a second: not for reading aloud
    this.append(this.said, this.counting);
  }

  update(view) {
    this.hidden = !view.stale;
    if (!view.stale) return;
    const { state, lostAt, retryAt, attempt } = view.connection;
    if (state === "missing") {
      setText(this.said, `✕ There is no session “${view.name}” on this server.`);
      setText(this.counting, "");
      return;
    }
    const from = timeOfDay(lostAt / 1000);
    const seen = view.session.lastId ? `what is shown is from ${from} and may be old` : "nothing received yet";
    setText(this.said, `✕ No connection: ${seen}.`);
    const next = retryAt === null ? "trying now" : `trying again in ${age((retryAt - Date.now()) / 1000)}`;
    setText(this.counting, ` For ${age((Date.now() - lostAt) / 1000)}; ${next} (attempt ${attempt}).`);
  }
}

customElements.define("ms-banner", Banner);
