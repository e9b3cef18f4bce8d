// The screen's connection: takes what is to be shown, gives back what was drawn, keeps the service's clock, reconnects.

import { ApiError, takeTicket } from "../net/api.js";
import { Clock } from "./clock.js";

const PING_MS = 1000;
const WAIT_MS = 1000;
const REVOKED = 4401;

export class Link {
  #socket = null;
  #pings = null;

  /** @param {{show: (show: object, picture: ?Uint8Array) => Promise<object>, plan: (plan: object) => void, refused: (why: string) => void}} hooks */
  constructor(session, hooks) {
    this.session = session;
    this.hooks = hooks;
    this.clock = new Clock();
  }

  async start() {
    try {
      this.#open(await takeTicket());
    } catch (error) {
      if (error instanceof ApiError && [401, 403].includes(error.status)) this.hooks.refused(error.message);
      else setTimeout(() => this.start(), WAIT_MS);
    }
  }

  #open(ticket) {
    const address = new URL(`/v1/sessions/${encodeURIComponent(this.session)}/participant`, location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address, ["mindsight.v1", `mindsight.ticket.${ticket}`]);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.#ping();
      this.#pings = setInterval(() => this.#ping(), PING_MS);
    };
    socket.onmessage = (event) => (typeof event.data === "string" ? this.#take(JSON.parse(event.data), null) : this.#unpack(event.data));
    socket.onclose = (event) => {
      clearInterval(this.#pings);
      if (event.code === REVOKED) this.hooks.refused("the key was revoked");
      else if (!opened) this.hooks.refused("there is no such session, or this key may not show it");
      else setTimeout(() => this.start(), WAIT_MS);
    };
  }

  /** A binary frame: the header's length, the header, the picture. */
  #unpack(buffer) {
    const length = new DataView(buffer).getUint32(0);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    this.#take(header, new Uint8Array(buffer, 4 + length));
  }

  async #take(message, picture) {
    if (message.type === "pong") this.clock.take(message.sent, message.t);
    else if (message.type === "plan") this.hooks.plan(message);
    else if (message.type === "show") {
      const { requested, drawn, patch } = await this.hooks.show(message, picture);
      this.#send({
        type: "drawn", number: message.number, patch, clock_ms: this.clock.errorMs,
        requested_t: this.clock.at(Clock.own(requested)), drawn_t: this.clock.at(Clock.own(drawn)),
      });
    }
  }

  #ping() {
    this.#send({ type: "ping", sent: Clock.own() });
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }
}
