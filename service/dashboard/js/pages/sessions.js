// All sessions as cards, open ones first; where there is none, one button that runs a simulated one.

import { bundle, plural, timeOfDay } from "../model/format.js";
import { NEWEST, listSessions, newId, ownKey, simulate, statusOf } from "../net/api.js";
import { h } from "../ui/dom.js";
import { action } from "../ui/forms.js";
import { older } from "../ui/older.js";
import { Page } from "./page.js";

const STATES = { open: "● OPEN", closed: "■ CLOSED", archived: "▣ ARCHIVED" };
const HEALTH = { ok: "● well", warning: "▲ warnings", silent: "■ silent", idle: "◌ between runs" };
const WITH_STATUS = 24; // of the newest sessions: each is a request

const day = (t) => new Date(t * 1000).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });

/** "run 2 · 37 / 105 volumes", or what is known of it. */
function progress(status) {
  if (!status) return "";
  if (status.run === null) return "no run yet";
  const of = status.planned_volumes ? ` / ${status.planned_volumes}` : "";
  return `run ${status.run} · ${status.volumes}${of} volumes`;
}

function health(item, status) {
  if (!status || item.state !== "open") return null;
  const warned = status.health === "warning" ? ` (${plural(status.warnings, "warning")})` : "";
  return h("span", { class: "health", "data-level": status.health, text: HEALTH[status.health] + warned });
}

function card(item, status) {
  const open = item.state === "open";
  const blinded = item.blinded ?? item.options.blinded;
  const since = status?.last_volume_t ? `last volume ${timeOfDay(status.last_volume_t)}` : "no volume yet";
  return h("a", { href: `#session=${encodeURIComponent(item.session)}`, class: "card" },
    h("span", { class: "row" }, h("strong", { text: item.subject }),
      h("span", { class: "chip", "data-state": open ? "LIVE" : "CLOSED", text: STATES[item.state] })),
    h("span", { class: "row" }, h("span", { text: item.session }), health(item, status) ?? ""),
    h("span", { class: "row" }, h("span", { text: progress(status) }), h("span", { class: "caption", text: open && status ? since : "" })),
    h("span", { class: "caption", text: item.bundle ? `bundle ${bundle(item.bundle)}` : "no bundle" }),
    h("span", { class: "row caption" }, h("span", { text: `opened ${day(item.opened_t)} ${timeOfDay(item.opened_t)}` }),
      blinded ? h("span", { class: "badge", text: "◧ BLINDED" }) : ""));
}

export class SessionList extends Page {
  #shown = "";
  #status = new Map(); // of sessions that no longer change

  constructor(refused) {
    super("Sessions", refused);
  }

  build() {
    this.list = h("ul", { class: "cards" });
    this.begin = action("Run the simulated session", this.notice, () => this.#simulate(), { class: "primary", id: "simulate" });
    this.empty = h("div", { class: "empty" },
      h("p", { text: "No session yet. A simulated one shows all of it: only the scanner and the participant are not real." }),
      this.begin, h("p", { class: "caption" }, "Or open one of your own: ", h("a", { href: "#new", text: "New session" })));
    this.empty.hidden = true;
    this.tools = h("p", { class: "row tools" }, h("a", { class: "button", href: "#new", text: "New session" }),
      action("Run a simulated session", this.notice, () => this.#simulate()));
    this.tools.hidden = true;
    this.older = older();
    return [this.empty, this.tools, this.list, this.older];
  }

  async load() {
    this.key ??= await ownKey();
    const items = (await listSessions()).sort((a, b) => (b.state === "open") - (a.state === "open") || b.opened_t - a.opened_t);
    const status = await this.#statusOf(items.slice(0, WITH_STATUS));
    if (!this.stopped) this.#draw(items, status);
  }

  async #statusOf(items) {
    const asked = items.filter((item) => !this.#status.has(item.session));
    const found = await Promise.all(asked.map((item) => statusOf(item.session).catch(() => null)));
    const all = new Map(this.#status);
    asked.forEach((item, i) => {
      if (found[i] && item.state === "archived") this.#status.set(item.session, found[i]);
      all.set(item.session, found[i]);
    });
    return all;
  }

  #draw(items, status) {
    const may = this.key.scopes.includes("sessions:control");
    this.empty.hidden = items.length > 0 || !may;
    this.tools.hidden = items.length === 0 || !may;
    this.older.hidden = items.length < NEWEST;
    if (!items.length && !may) this.notice.say("No session yet.");
    const shown = JSON.stringify([items, [...status]]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const focused = document.activeElement?.closest?.(".cards a")?.hash;
    this.list.replaceChildren(...items.map((item) => h("li", {}, card(item, status.get(item.session)))));
    if (focused) [...this.list.querySelectorAll("a")].find((link) => link.hash === focused)?.focus();
  }

  async #simulate() {
    this.notice.say("Opening a simulated session …");
    this.simulation ??= newId("sim"); // a second press is the same simulation
    const { session } = await simulate({ job: this.simulation });
    this.simulation = null;
    location.hash = `#session=${encodeURIComponent(session)}`;
  }
}
