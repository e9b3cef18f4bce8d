// One session's messages over a WebSocket: connects, resumes from the last id, notices silence, backs off.
// Knows nothing of what messages mean: the caller gives its last id and receives what follows.

import { ApiError, getSession, takeTicket } from "./api.js";

const SILENT_MS = 7000; // the gateway ticks every 2 s: three missed ticks and a margin
const CONNECT_MS = 8000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
const FINAL = { 401: "denied", 403: "forbidden", 404: "missing" };

/** JSON, with the seed kept as text where a double could not hold all its digits. */
export function parse(text) {
  return JSON.parse(text.replace(/"seed":(-?\d{16,})/, '"seed":"$1"'));
}

export class SessionSocket {
  #socket = null;
  #timer = null;
  #watchdog = null;
  #attempt = 0;
  #stopped = false;
  #before = Infinity; // number of the last message that was there when it connected; those after it are live

  /**
   * @param {string} session
   * @param {{lastId: () => number, onMessage: (m: object) => void, onTick: (t: number) => void,
   *   onRecord: (record: object) => void, onState: (state: object) => void, onComing?: (digest: string) => void,
   *   onPicture?: (digest: string, blob: Blob) => void}} hooks
   * @param {?number} speed times its own pace, for a replay; null: live
   */
  constructor(session, hooks, speed = null) {
    this.session = session;
    this.speed = speed;
    this.hooks = hooks;
  }

  async start() {
    this.#report("connecting");
    try {
      this.hooks.onRecord(await getSession(this.session));
      const ticket = await takeTicket();
      if (!this.#stopped) this.#open(ticket);
    } catch (error) {
      if (this.#stopped) return;
      const final = error instanceof ApiError ? FINAL[error.status] : undefined;
      if (final) this.#end(final);
      else this.#retry();
    }
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#drop();
  }

  /** Drops the connection and reconnects from the last id. */
  resume() {
    this.#drop();
    this.#retry();
  }

  /** Connects anew at once, with what the server then says of the session and from the caller's last id. */
  restart() {
    this.#drop();
    clearTimeout(this.#timer);
    this.#timer = null;
    this.start();
  }

  /** Reconnects at once instead of waiting for the next attempt. */
  retryNow() {
    if (this.#socket || this.#stopped || this.#timer === null) return;
    clearTimeout(this.#timer);
    this.#timer = null;
    this.start();
  }

  #open(ticket) {
    const address = new URL(`/v1/sessions/${encodeURIComponent(this.session)}/stream`, location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    address.searchParams.set("after", this.hooks.lastId());
    if (this.speed) address.searchParams.set("speed", this.speed);
    const socket = new WebSocket(address, ["mindsight.v1", `mindsight.ticket.${ticket}`]);
    this.#socket = socket;
    this.#armWatchdog(CONNECT_MS);
    socket.binaryType = "arraybuffer";
    this.#before = Infinity;
    socket.onopen = () => {
      this.#armWatchdog(SILENT_MS);
      if (!this.speed) socket.send('{"type":"want","lanes":["pictures"]}');
    };
    socket.onmessage = (event) => {
      if (socket !== this.#socket) return;
      this.#armWatchdog(SILENT_MS);
      if (typeof event.data === "string") this.#receive(parse(event.data));
      else this.#unpack(event.data);
    };
    socket.onclose = () => {
      if (socket !== this.#socket) return;
      this.resume();
    };
  }

  #receive(message) {
    if (this.#attempt !== 0 || !this.live) {
      this.#attempt = 0;
      this.live = true;
      this.#report("open");
    }
    if (message.type === "tick") {
      if (this.#before === Infinity) this.#before = message.last ?? Infinity;
      this.hooks.onTick(message.t);
      return;
    }
    if (message.type === "reconstruction" && message.id > this.#before) this.hooks.onComing?.(message.image);
    this.hooks.onMessage(message);
  }

  /** The newest item of a lane: four bytes with the length of its header, the header, the picture. */
  #unpack(buffer) {
    const length = new DataView(buffer).getUint32(0);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    this.hooks.onPicture?.(header.details.image, new Blob([new Uint8Array(buffer, 4 + length)], { type: header.media_type }));
  }

  #armWatchdog(ms) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.resume(), ms);
  }

  #drop() {
    clearTimeout(this.#watchdog);
    this.live = false;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #retry() {
    if (this.#stopped || this.#timer !== null) return;
    this.#attempt += 1;
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (this.#attempt - 1)) * (0.75 + Math.random() / 2);
    this.#report("lost", { attempt: this.#attempt, retryAt: Date.now() + wait });
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.start();
    }, wait);
  }

  #end(state) {
    this.stop();
    this.#report(state);
  }

  #report(state, more = {}) {
    this.hooks.onState({ state, attempt: this.#attempt, retryAt: null, ...more });
  }
}
