// Images by their digest: fetched once with the key, kept as object URLs; the least recently used is released, by bytes.

import { ApiError, fetchImage } from "../net/api.js";

const KEPT_BYTES = 64 * 2 ** 20;
const urls = new Map(); // digest -> {url: Promise<string>, bytes}, least recently used first
const coming = new Map(); // digest -> what to do with its bytes
const COMING_MS = 500; // longer than a picture takes on its lane, shorter than a person waits
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 10_000;
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
 * Shows an image in an <img>. Until it is there nothing is shown, or with `keep` the previous one, dimmed: it is never shown as if
 * it were the new one. `missing` is told whether it could not be loaded; as long as it is wanted and the server has not said that
 * there is none, it is asked for again.
 */
export async function show(img, digest, missing = () => {}, keep = false) {
  if (img.dataset.digest === digest) return;
  img.dataset.digest = digest;
  missing(false);
  if (keep) img.classList.add("previous");
  else img.hidden = true;
  const wanted = () => img.dataset.digest === digest;
  for (let wait = FIRST_WAIT_MS; wanted(); wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
    try {
      const url = await imageUrl(digest);
      if (!wanted()) return;
      img.src = url;
      if (keep) await img.decode();
      if (!wanted()) return;
      img.classList.remove("previous");
      img.hidden = false;
      return missing(false);
    } catch (error) {
      if (!wanted()) return;
      img.hidden = true;
      missing(true);
      if (!mayComeYet(error)) {
        img.dataset.digest = "";
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (!img.isConnected) return;
    }
  }
}

/** Silence, no connection, too many requests and a server in trouble pass; "no such image", and bytes that are none, do not. */
const mayComeYet = (error) =>
  error instanceof ApiError ? error.status >= 500 || error.status === 429 : error.name !== "EncodingError";
