// Finished sessions, each to be seen again on the live page, at 1 to 20 times its own pace.

import { timeOfDay } from "../model/format.js";
import { NEWEST, listSessions } from "../net/api.js";
import { h } from "../ui/dom.js";
import { field, input } from "../ui/forms.js";
import { older } from "../ui/older.js";
import { table } from "../ui/table.js";
import { Page } from "./page.js";

const when = (t) => `${new Date(t * 1000).toLocaleDateString()} ${timeOfDay(t)}`;

export class ReplayList extends Page {
  constructor(_, refused) {
    super("Replay", refused, 10_000);
  }

  build() {
    this.speed = input("speed", { type: "number", min: "1", max: "20", step: "1", value: "10" });
    this.speed.addEventListener("input", () => this.#draw());
    this.list = h("div");
    this.older = older();
    return [field("Times its own pace", this.speed, "1 to 20"), h("section", { class: "sheet" }, h("h2", { text: "Finished sessions" }), this.list, this.older)];
  }

  async load() {
    const newest = await listSessions();
    const sessions = newest.filter((s) => s.state !== "open").reverse();
    this.older.hidden = newest.length < NEWEST;
    if (JSON.stringify(sessions) === this.shown) return;
    this.shown = JSON.stringify(sessions);
    this.sessions = sessions;
    this.#draw();
  }

  #draw() {
    const speed = Math.min(20, Math.max(1, Number(this.speed.value) || 1));
    this.list.replaceChildren(table("finished sessions", ["Session", "Subject", "State", "Opened", ""], (this.sessions ?? []).map((s) => [
      s.session, s.subject, s.state, when(s.opened_t),
      h("a", { class: "button", href: `#replay=${encodeURIComponent(s.session)}&speed=${speed}`, text: `Replay at ${speed} ×`, "aria-label": `Replay ${s.session} at ${speed} times` }),
    ]), "No session has ended yet."));
  }
}
