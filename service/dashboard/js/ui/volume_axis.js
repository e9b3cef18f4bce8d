// What the charts over a run's volumes share: which volumes they show, and the one that the crosshair is at.

/** How many volumes a run's axis holds: the run's own number, or room that grows in steps of 50. */
export const span = (run) => run?.nVolumes ?? Math.max(50, Math.ceil((run?.volumes.length ?? 0) / 50) * 50);

const LEAST = 8; // volumes that stay in sight at the deepest zoom

export class VolumeAxis {
  #run = null;
  #whole = 50;
  #zoom = null; // [from, to] or null: the whole run
  #charts = new Set();
  at = null; // the volume under the crosshair, or null

  /** @param {string} key names the axis among the page's @param {() => void} changed called when the crosshair has moved */
  constructor(key, changed) {
    this.key = key;
    this.changed = changed;
  }

  add(chart) {
    this.#charts.add(chart);
  }

  clear() {
    for (const chart of this.#charts) chart.destroy();
    this.#charts.clear();
  }

  /** Follows a run; another run is shown whole. */
  follow(run) {
    if ((run?.run ?? null) !== this.#run) {
      this.#run = run?.run ?? null;
      this.#zoom = this.at = null;
    }
    this.#whole = span(run);
  }

  get range() {
    return this.#zoom ?? [0, this.#whole];
  }

  get isZoomed() {
    return this.#zoom !== null;
  }

  /** Shows these volumes in every chart; null: the whole run. */
  zoom(range) {
    if (range) {
      const width = Math.min(this.#whole, Math.max(LEAST, range[1] - range[0]));
      const from = Math.max(0, Math.min(this.#whole - width, (range[0] + range[1] - width) / 2));
      this.#zoom = width >= this.#whole ? null : [from, from + width];
    } else {
      this.#zoom = null;
    }
    for (const chart of this.#charts) chart.rescale();
    if (this.at !== null) requestAnimationFrame(() => this.#charts.forEach((chart) => chart.point(this.at)));
    this.changed();
  }

  /** Closer (factor under 1) or wider, around the crosshair or the middle. */
  zoomBy(factor) {
    const [from, to] = this.range;
    const centre = this.at ?? (from + to) / 2;
    this.zoom([centre - (centre - from) * factor, centre + (to - centre) * factor]);
  }

  /** The crosshair is at a volume of a chart, or at none. */
  hover(at) {
    if (at === this.at) return;
    this.at = at;
    this.changed();
  }

  /** Moves the crosshair by volumes; from nowhere to the newest in sight. */
  step(by, n) {
    if (n === 0) return;
    const [from, to] = this.range;
    const last = Math.min(n - 1, Math.floor(to));
    const at = this.at === null ? last : Math.max(Math.ceil(from), Math.min(last, this.at + by));
    for (const chart of this.#charts) chart.point(at);
    this.hover(at);
  }
}
