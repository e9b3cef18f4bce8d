() => {
  const found = [];
  const texts = [];
  const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  const name = (el) => el.closest('[role=region], ms-header, ms-banner, dialog')?.localName ?? el.localName;
  const titled = (el) => el && (el.title || titled(el.parentElement?.closest('.live *')));
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const el = node.parentElement;
    const words = node.textContent.trim();
    if (!words || !el.checkVisibility() || el.closest('.unseen')) continue;
    range.selectNodeContents(node);
    for (const r of range.getClientRects()) {
      const box = {x0: r.left, y0: r.top, x1: r.right, y1: r.bottom};
      let scrolled = false;
      let cut = false;
      for (let up = el; up && up.localName !== 'main'; up = up.parentElement) {
        const style = getComputedStyle(up);
        const o = up.getBoundingClientRect();
        const clips = style.overflowX !== 'visible' || style.overflowY !== 'visible';
        scrolled ||= ['auto', 'scroll'].includes(style.overflowY) && up.scrollHeight > up.clientHeight;
        const out = box.x0 < o.left - 1 || box.x1 > o.right + 1 || box.y0 < o.top - 1 || box.y1 > o.bottom + 1;
        if (clips && out) {
          const ellipsis = style.textOverflow === 'ellipsis' || style.webkitLineClamp !== 'none';
          if (!scrolled && !cut && !(ellipsis && titled(el))) found.push(`${name(el)}: "${words}" is cut without an ellipsis and a title`);
          cut = true;
          Object.assign(box, {x0: Math.max(box.x0, o.left), x1: Math.min(box.x1, o.right), y0: Math.max(box.y0, o.top), y1: Math.min(box.y1, o.bottom)});
        } else if (out && up.matches('[role=region], header, .cell, .chip, button, th, td, li, ms-header')) {
          found.push(`${name(el)}: "${words}" leaves its ${up.localName}`);
        }
      }
      if (box.x0 < -1 || box.y0 < -1 || box.x1 > innerWidth + 1 || (box.y1 > innerHeight + 1)) found.push(`${name(el)}: "${words}" leaves the screen`);
      if (box.x1 - box.x0 > 1 && box.y1 - box.y0 > 1) texts.push({...box, words, el});
    }
  }
  for (const canvas of document.querySelectorAll('.live canvas')) {
    const o = canvas.getBoundingClientRect();
    const scale = o.width / canvas.width;
    for (const t of canvas.painted ?? []) {
      if (t.x0 < -1 || t.y0 < -1 || t.x1 > canvas.width + 1 || t.y1 > canvas.height + 1) found.push(`${name(canvas)}: painted "${t.words}" leaves its canvas`);
      texts.push({x0: o.left + t.x0 * scale, x1: o.left + t.x1 * scale, y0: o.top + t.y0 * scale, y1: o.top + t.y1 * scale, words: t.words, el: canvas, canvas});
    }
  }
  texts.sort((a, b) => a.x0 - b.x0);
  texts.forEach((a, i) => {
    for (let k = i + 1; k < texts.length && texts[k].x0 < a.x1 - 1; k++) {
      const b = texts[k];
      // the leading of two lines of one text may touch; letters of the same element never lie on each other
      if (a.el === b.el && !a.canvas) continue;
      const deep = Math.min(a.y1, b.y1) - Math.max(a.y0, b.y0);
      const wide = Math.min(a.x1, b.x1) - b.x0;
      if (deep > 3 && wide > 1) found.push(`${name(a.el)}: "${a.words}" and "${b.words}" lie on each other`);
    }
  });
  return [...new Set(found)];
}
