// Images by their digest: fetched once with the key, kept as object URLs; the least recently used is released.

import { fetchImage } from "../net/api.js";

const KEPT = 400;
const urls = new Map(); // digest -> Promise<string>, least recently used first

/** An object URL of the image; rejects if it cannot be loaded (and may be requested again). */
export function imageUrl(digest) {
  const known = urls.get(digest);
  urls.delete(digest);
  const url = known ?? fetchImage(digest).then((blob) => URL.createObjectURL(blob));
  urls.set(digest, url);
  url.catch(() => urls.delete(digest));
  if (urls.size > KEPT) {
    const [oldest, promise] = urls.entries().next().value;
    urls.delete(oldest);
    promise.then((it) => URL.revokeObjectURL(it), () => {});
  }
  return url;
}

/** Shows an image in an <img>; `failed` is called if it cannot be loaded. Never shows the previous one under a new caption. */
export async function show(img, digest, failed = () => {}) {
  if (img.dataset.digest === digest) return;
  img.dataset.digest = digest;
  img.hidden = true;
  try {
    const url = await imageUrl(digest);
    if (img.dataset.digest !== digest) return;
    img.src = url;
    img.hidden = false;
  } catch {
    if (img.dataset.digest !== digest) return;
    img.dataset.digest = "";
    failed();
  }
}
