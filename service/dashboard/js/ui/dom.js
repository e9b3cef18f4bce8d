// The few DOM helpers that the panels share.

/** An element with properties (class, text, attributes, on... handlers) and children. */
export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") el.textContent = value;
    else if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
    else el.setAttribute(name, value === true ? "" : value);
  }
  el.append(...children);
  return el;
}

/** Sets text only where it differs, so that nothing is laid out that did not change. */
export function setText(el, text) {
  if (el.textContent !== text) el.textContent = text;
}

/** The same for an attribute; null takes it away. */
export function setAttr(el, name, value) {
  if (value === null) el.removeAttribute(name);
  else if (el.getAttribute(name) !== value) el.setAttribute(name, value);
}
