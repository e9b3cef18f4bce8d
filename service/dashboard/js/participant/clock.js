// The service's clock on this machine: of the pings, the one with the shortest way tells best.

export class Clock {
  #offset = null; // service's clock minus this page's, seconds
  #way = Infinity; // seconds, there and back

  /** This page's clock, seconds; `at` is a time of performance.now() or of an animation frame, ms. */
  static own(at = performance.now()) {
    return (performance.timeOrigin + at) / 1000;
  }

  /** A ping that was sent at `sent` came back with the service's time `t`. */
  take(sent, t, now = Clock.own()) {
    const way = now - sent;
    if (way >= this.#way) return;
    this.#way = way;
    this.#offset = t - (sent + way / 2);
  }

  get known() {
    return this.#offset !== null;
  }

  /** The service's time of one of this page's, seconds. */
  at(own) {
    return own + (this.#offset ?? 0);
  }

  /** How far the two may differ, milliseconds. */
  get errorMs() {
    return this.known ? (this.#way / 2) * 1000 : 0;
  }
}
