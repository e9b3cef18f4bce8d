// What a person must know before reading anything else: that this page is out of date, and by how much.

import { age, timeOfDay } from "../model/format.js";
import { h, setText } from "../ui/dom.js";

class Banner extends HTMLElement {
  connectedCallback() {
    if (this.message) return;
    this.message = h("span", { role: "alert" });
    this.counting = h("span", { "aria-hidden": "true" }); // changes four times a second: not to be read aloud
    this.append(this.message, this.counting);
  }

  update(view) {
    this.hidden = !view.stale;
    if (!view.stale) return;
    const { state, lostAt, retryAt, attempt } = view.connection;
    if (state === "missing") {
      setText(this.message, `✕ There is no session “${view.name}” on this server.`);
      setText(this.counting, "");
      return;
    }
    const from = timeOfDay(lostAt / 1000);
    const seen = view.session.lastId ? `this page is from ${from} and may be old` : "nothing received yet";
    setText(this.message, `✕ No connection: ${seen}.`);
    const next = retryAt === null ? "trying now" : `trying again in ${age((retryAt - Date.now()) / 1000)}`;
    setText(this.counting, ` For ${age((Date.now() - lostAt) / 1000)}; ${next} (attempt ${attempt}).`);
  }
}

customElements.define("ms-banner", Banner);
