// The palette of the style sheet, for canvases.

const root = getComputedStyle(document.documentElement);
const colour = (name) => root.getPropertyValue(`--${name}`).trim();

export const INK = Object.fromEntries(
  ["bg", "panel", "line", "ink", "dim", "faint", "blue", "green", "violet", "amber", "red"].map((n) => [n, colour(n)]),
);

/** The size of the page's letters now, in pixels. */
export const em = () => parseFloat(root.fontSize);

/** The font of a canvas; whole pixels, as uPlot needs them. */
export const font = (size = 0.8) => `${Math.round(em() * size)}px ${root.fontFamily}`;
