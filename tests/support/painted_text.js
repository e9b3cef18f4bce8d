// Runs before the page's scripts: each canvas remembers the boxes of the texts that are painted on it now, in its own pixels.
(() => {
  const of = CanvasRenderingContext2D.prototype;
  const {fillText, clearRect} = of;
  of.fillText = function (words, x, y, ...more) {
    const m = this.measureText(words);
    const corner = new DOMPoint(x - m.actualBoundingBoxLeft, y - m.actualBoundingBoxAscent).matrixTransform(this.getTransform());
    const end = new DOMPoint(x + m.actualBoundingBoxRight, y + m.actualBoundingBoxDescent).matrixTransform(this.getTransform());
    const side = `${this.canvas.width}x${this.canvas.height}`;
    if (this.canvas.paintedSide !== side) { this.canvas.painted = []; this.canvas.paintedSide = side; }
    if (words) this.canvas.painted.push({words, x0: corner.x, y0: corner.y, x1: end.x, y1: end.y});
    return fillText.call(this, words, x, y, ...more);
  };
  of.clearRect = function (x, y, w, h) {
    if (w >= this.canvas.width && h >= this.canvas.height) this.canvas.painted = [];
    return clearRect.call(this, x, y, w, h);
  };
  for (const side of ['width', 'height']) {
    const known = Object.getOwnPropertyDescriptor(HTMLCanvasElement.prototype, side);
    Object.defineProperty(HTMLCanvasElement.prototype, side, {...known, set(value) { this.painted = []; known.set.call(this, value); }});
  }
})();
