// Numbers and times as people read them, always with their unit. Knows nothing of messages or of the page.

const GROUPED = new Intl.NumberFormat("en-US");
const MINUS = "\u2212";
const THIN = "\u2009";

/** @param {number} n */
export const count = (n) => GROUPED.format(n);

/** A fixed number of decimals, with a true minus sign. */
export function fixed(x, decimals) {
  const text = Math.abs(x).toFixed(decimals);
  return x < 0 && Number(text) !== 0 ? MINUS + text : text;
}

/** The same with a plus sign, for quantities around zero. */
export const signed = (x, decimals) => (x < 0 ? fixed(x, decimals) : `+${fixed(x, decimals)}`);

/** Milliseconds in three figures, in the unit that they fit: "0.4 ms", "41 ms", "1.97 s", "12.5 s", "312 s", "48 min". */
export function duration(ms) {
  if (ms < 999.5) return `${ms < 9.95 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
  const s = ms / 1000;
  if (s < 999.5) return `${s < 9.995 ? s.toFixed(2) : s < 99.95 ? s.toFixed(1) : s.toFixed(0)} s`;
  return s < 7200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}

/** Seconds as m:ss, with the hours once there are any. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const ss = String(whole % 60).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${ss}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${ss}`;
}

/** An age: tenths up to ten seconds, then seconds, then minutes. */
export function age(seconds) {
  const s = Math.max(0, seconds);
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 120) return `${s.toFixed(0)} s`;
  return s < 7200 ? `${Math.floor(s / 60)} min` : `${Math.floor(s / 3600)} h`;
}

/** The wall clock of the reader, HH:MM:SS, of seconds since the Unix epoch. */
export function timeOfDay(t) {
  const d = new Date(t * 1000);
  return [d.getHours(), d.getMinutes(), d.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":");
}

/** Enough of a digest to tell two apart by eye. */
export const short = (digest) => digest.slice(0, 7);

/** A chance level: as many decimals as it needs. */
export const chance = (p) => (p >= 0.1 ? p.toFixed(2) : String(Number(p.toPrecision(2))));

/** What a bundle is called: its name without the word, or enough of its digest. */
export const bundle = (id) => (/^[0-9a-f]{64}$/.test(id) ? short(id) : id.replace(/^bundle[-_ ]/, ""));

export const plural = (n, one, many = `${one}s`) => `${count(n)}${THIN}${n === 1 ? one : many}`;
