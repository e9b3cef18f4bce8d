// What happened, in plain words, newest first; warnings in amber and read aloud.

import { h } from "../dom.js";
import { count, timeOfDay } from "../format.js";
import { Panel } from "../panel.js";

const SHOWN = 120;

class EventsPanel extends Panel {
  title_ = "Events";
  #spoken = 0;

  build(body) {
    this.list = h("ol", { tabindex: "0", "aria-label": "events, newest first" });
    this.voice = h("p", { class: "unseen", "aria-live": "polite" });
    body.append(this.list, this.voice);
  }

  inputs(view) {
    return [view.session.log];
  }

  draw(view) {
    const log = view.session.log;
    const warnings = log.filter((entry) => entry.level === "warning");
    this.say("Events", warnings.length ? `▲ ${count(warnings.length)} ${warnings.length === 1 ? "warning" : "warnings"}` : "");
    const rows = log.slice(-SHOWN).reverse().map((entry) =>
      h("li", { class: entry.level }, h("time", { text: timeOfDay(entry.t) }),
        h("span", { text: entry.level === "warning" ? `▲ ${entry.text}` : entry.text })));
    this.list.replaceChildren(...rows);
    this.#speak(warnings.at(-1));
  }

  /** Only warnings are read aloud, each once. */
  #speak(warning) {
    if (!warning || warning.id <= this.#spoken) return;
    this.#spoken = warning.id;
    this.voice.textContent = warning.text;
  }
}

customElements.define("ms-events", EventsPanel);
