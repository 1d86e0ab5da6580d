/** @file Numbers as people read them. */

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** @param {number} value */
export const count = (value) => (Math.abs(value) < 10000 ? plain.format(value) : short.format(value));

/** Milliseconds. @param {number} value */
export function duration(value) {
  if (value === 0) return "0 ms";
  if (value < 1) return `${value.toFixed(2)} ms`;
  if (value < 1000) return `${Math.round(value)} ms`;
  return value < 60000 ? `${(value / 1000).toFixed(value < 10000 ? 2 : 1)} s` : `${Math.floor(value / 60000)} min ${Math.round((value % 60000) / 1000)} s`;
}

/** US dollars; small amounts keep two digits that say something. @param {number} value */
export const dollars = (value) => (value === 0 ? "$0" : value < 0.01 ? `$${value.toPrecision(2).replace(/(\.\d*?)0+(?=e|$)/, "$1")}` : `$${value.toFixed(value < 1 ? 3 : 2).replace(/(\.\d\d)0$/, "$1")}`);

/** @param {number} value */
export const bytes = (value) => (value < 1024 ? `${value} B` : value < 1024 ** 2 ? `${plain.format(value / 1024)} KB` : `${plain.format(value / 1024 ** 2)} MB`);

/** How long something has lasted, from seconds. @param {number} seconds */
export function span(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

/** A time of day. @param {string | number} time as Date takes it @param {boolean} [seconds] */
export const clock = (time, seconds = true) => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined, hourCycle: "h23" });

/** @param {string} word @param {number} n */
export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
