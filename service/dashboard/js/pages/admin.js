// What looks after the service: workers and queues, disk and bus, keys, the audit log.

import { age, count, duration, timeOfDay } from "../model/format.js";
import { auditLog, listJobs, listKeys, mintKey, ownKey, revokeKey, serviceState } from "../net/api.js";
import { h } from "../ui/dom.js";
import { action, confirmed, field, form, select } from "../ui/forms.js";
import { jobLine, FINISHED } from "../ui/job.js";
import { table } from "../ui/table.js";
import { Page } from "./page.js";

const LINES = 60;
const ROLES = [["experimenter", "experimenter: runs sessions, sees everything"], ["viewer", "viewer: watches, blinded"],
  ["console", "console: sends volumes and events"], ["admin", "admin: also keys, audit, erasure"]];
const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MB`;
const gigabytes = (bytes) => `${(bytes / 1e9).toFixed(1)} GB`;
const when = (t) => `${new Date(t * 1000).toLocaleDateString()} ${timeOfDay(t)}`;

export class AdminPage extends Page {
  constructor(_, refused) {
    super("Admin", refused, 4000);
  }

  build() {
    const sheet = (title, ...children) => h("section", { class: "sheet" }, h("h2", { text: title }), ...children);
    this.workers = h("div");
    this.queues = h("div");
    this.machine = h("div");
    this.jobs = h("div");
    this.keys = h("div");
    this.audit = h("div");
    this.newKey = h("div", { role: "status" });
    const role = select("role", ROLES);
    this.minting = form(this.notice, "New key", async () => {
      const made = await mintKey(role.value);
      this.newKey.replaceChildren(field(`The new ${made.role} key, shown only here`, h("input", { id: "new-key", readonly: true, value: made.key })));
      this.newKey.querySelector("input").select();
      await this.reload();
    }, field("Role", role));
    this.forAdmins = h("div", { class: "stack" }, sheet("Keys", this.keys, this.minting, this.newKey), sheet("Audit log, newest first", this.audit));
    return [h("div", { class: "pair-of-sheets" }, sheet("Workers", this.workers), sheet("Queues", this.queues)),
      h("div", { class: "pair-of-sheets" }, sheet("Machine and limits", this.machine), sheet("Jobs", this.jobs)), this.forAdmins];
  }

  async load() {
    this.key ??= await ownKey();
    const isAdmin = this.key.scopes.includes("admin");
    this.forAdmins.hidden = !isAdmin;
    const [state, jobs, keys, audit] = await Promise.all([serviceState(), listJobs(), isAdmin ? listKeys() : [], isAdmin ? auditLog(LINES) : []]);
    this.#drawService(state);
    this.#drawOnce("jobs", jobs, () => {
      const open = jobs.filter((job) => !FINISHED.includes(job.state));
      this.jobs.replaceChildren(...(open.length ? open.map((job) => jobLine(job, this.notice)) : [h("p", { class: "caption", text: `No job is at work; ${count(jobs.length)} have ended.` })]));
    });
    this.#drawOnce("keys", keys, () => this.keys.replaceChildren(table("keys", ["Key", "Role", "Opens", "Made", "Expires", ""], keys.map((key) => this.#keyRow(key)))));
    this.#drawOnce("audit", audit, () => this.audit.replaceChildren(table("audit log", ["No.", "Time", "Key", "Role", "What", "Of", "Status"], audit.map(({ number, record }) => [
      String(number), when(record.t), record.key, record.role, `${record.method} ${record.route}`, Object.values(record.of).join(" "), String(record.status)]))));
  }

  #drawOnce(name, value, draw) {
    const text = JSON.stringify(value);
    this.drawn ??= {};
    if (this.drawn[name] === text) return;
    this.drawn[name] = text;
    draw();
  }

  #drawService(state) {
    const now = Date.now() / 1000;
    this.workers.replaceChildren(table("workers", ["Worker", "State", "Computes on", "Since", "Version"], state.workers.map((w) => [
      `${w.kind} ${w.name}`, w.silent ? `✕ silent for ${age(now - w.seen_t)}` : "● there", w.about, when(w.started_t), w.version,
    ]), "✕ No worker is there: start them with mindsight serve, or mindsight work."));
    this.queues.replaceChildren(table("queues", ["Queue", "Waiting", "Lag", "Could not be done"], state.queues.map((q) => [
      q.queue, count(q.waiting), q.oldest_s === null ? (q.waiting ? "not measured" : "none") : duration(q.oldest_s * 1000), count(q.dead)])));
    const { disk, bus, limits } = state;
    this.machine.replaceChildren(table("machine and limits", ["What", "Figure"], [
      ["Disk of the data folder", `${gigabytes(disk.free_bytes)} free of ${gigabytes(disk.total_bytes)}`],
      ["Bus", `responds in ${duration(bus.round_trip_ms)}, its clock differs by ${duration(Math.abs(bus.clock_offset_s) * 1000)}`],
      ["One volume", `at most ${megabytes(limits.volume_bytes)}`],
      ["Any other request", `at most ${megabytes(limits.body_bytes)}, an image 8 MB`],
      ["Requests of one key", `${limits.requests_s} a second, ${limits.request_burst} at once`],
      ["Version", state.version],
    ]));
  }

  #keyRow(key) {
    const own = key.id === this.key.id;
    return [`${key.id}${own ? " (this tab's)" : ""}`, key.role, key.session ?? "all sessions", when(key.created_t), key.expires_t === null ? "never" : when(key.expires_t),
      own ? "" : action("Revoke", this.notice, async () => {
        if (!await confirmed("Revoke", "Whoever uses this key is refused from now on, and its open streams end.", key.id)) return;
        await revokeKey(key.id);
        this.notice.say(`Key ${key.id} is revoked.`);
        await this.reload();
      }, { class: "danger", "aria-label": `Revoke ${key.id}` })];
  }
}
