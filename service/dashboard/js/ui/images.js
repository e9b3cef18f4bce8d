// Images by their digest: fetched once with the key, kept as object URLs; the least recently used is released, by bytes.

import { fetchImage } from "../net/api.js";

const KEPT_BYTES = 64 * 2 ** 20;
const urls = new Map(); // digest -> {url: Promise<string>, bytes}, least recently used first
const coming = new Map(); // digest -> what to do with its bytes
const COMING_MS = 500; // longer than a picture takes on its lane, shorter than a person waits
let bytes = 0;

/** The image is on its way: whoever asks for it waits for that, but not for long, instead of fetching it. */
export function expectImage(digest) {
  if (urls.has(digest)) return;
  const pushed = new Promise((resolve) => {
    coming.set(digest, resolve);
    setTimeout(resolve, COMING_MS, null);
  }).finally(() => coming.delete(digest));
  urls.set(digest, load(digest, pushed.then((blob) => blob ?? fetchImage(digest))));
}

/** An image that came by itself; kept only if it was expected. */
export const takeImage = (digest, blob) => coming.get(digest)?.(blob);

/** An object URL of the image; rejects if it cannot be loaded (and may be requested again). */
export function imageUrl(digest) {
  const known = urls.get(digest) ?? load(digest);
  urls.delete(digest);
  urls.set(digest, known); // the last to be released
  return known.url;
}

function load(digest, blob = fetchImage(digest)) {
  const item = { bytes: 0 };
  item.url = blob.then((blob) => {
    item.bytes = blob.size;
    bytes += blob.size;
    release(digest);
    return URL.createObjectURL(blob);
  });
  item.url.catch(() => urls.delete(digest));
  return item;
}

/** Releases what was not looked at for longest; never the one that came now. */
function release(newest) {
  for (const [digest, item] of urls) {
    if (bytes <= KEPT_BYTES) return;
    if (digest === newest || item.bytes === 0) continue;
    urls.delete(digest);
    bytes -= item.bytes;
    item.url.then((it) => URL.revokeObjectURL(it));
  }
}

/**
 * Shows an image in an <img>; `failed` is called if it cannot be loaded. Until it is there nothing is shown, or with `keep` the
 * previous one, dimmed: it is never shown as if it were the new one.
 */
export async function show(img, digest, failed = () => {}, keep = false) {
  if (img.dataset.digest === digest) return;
  img.dataset.digest = digest;
  if (keep) img.classList.add("previous");
  else img.hidden = true;
  try {
    const url = await imageUrl(digest);
    if (img.dataset.digest !== digest) return;
    img.src = url;
    if (keep) await img.decode();
    if (img.dataset.digest !== digest) return;
    img.classList.remove("previous");
    img.hidden = false;
  } catch {
    if (img.dataset.digest !== digest) return;
    img.dataset.digest = "";
    img.hidden = true;
    failed();
  }
}
