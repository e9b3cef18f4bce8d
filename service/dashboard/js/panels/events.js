// What happened, in plain words, newest first; warnings in amber, errors in red, both read aloud.

import { plural, timeOfDay } from "../model/format.js";
import { h } from "../ui/dom.js";
import { Panel } from "../ui/panel.js";

const SHOWN = 120;
const SIGNS = { warning: "▲ ", error: "✕ " };

class EventsPanel extends Panel {
  title_ = "Events";
  #announced = 0;

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
    const alerts = log.filter((entry) => entry.level in SIGNS);
    const errors = alerts.filter((entry) => entry.level === "error");
    const warnings = alerts.length - errors.length;
    const counts = [
      errors.length && `${SIGNS.error}${plural(errors.length, "error")}`,
      warnings && `${SIGNS.warning}${plural(warnings, "warning")}`,
    ];
    this.setHeading("Events", counts.filter(Boolean).join(" · "));
    this.classList.toggle("has-errors", errors.length > 0);
    const rows = log.slice(-SHOWN).reverse().map((entry) =>
      h("li", { class: entry.level }, h("time", { text: timeOfDay(entry.t) }),
        h("span", { text: `${SIGNS[entry.level] ?? ""}${entry.text}` })));
    this.list.replaceChildren(...rows);
    this.#announce(alerts.at(-1));
  }

  /** Only warnings and errors are read aloud, each once. */
  #announce(alert) {
    if (!alert || alert.id <= this.#announced) return;
    this.#announced = alert.id;
    this.voice.textContent = alert.text;
  }
}

customElements.define("ms-events", EventsPanel);
