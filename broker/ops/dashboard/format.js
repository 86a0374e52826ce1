// Numbers, durations and times as people read them. Everything unknown is a dash.

export const UNKNOWN = "–";

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const ONE = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

const THOUSANDS = ["", " k", " M", " G", " T"];
const BYTES = [" B", " KB", " MB", " GB", " TB"];

/**
 * @param {number | null | undefined} value
 * @returns {value is number}
 */
export function isKnown(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/**
 * @param {number} value
 * @param {string[]} units a thousand between them
 * @returns {string}
 */
function scaled(value, units) {
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const short = unit > 0 && value < 99.95 ? ONE : WHOLE;
  return short.format(value) + units[unit];
}

/**
 * @param {number | null | undefined} value
 * @returns {string} whole, with its thousands apart; above a million with a unit.
 */
export function count(value) {
  if (!isKnown(value)) return UNKNOWN;
  return value < 1e6 ? WHOLE.format(value) : scaled(value, THOUSANDS);
}

/**
 * @param {number | null | undefined} value per second
 * @returns {string} without its unit; one decimal below ten.
 */
export function rate(value) {
  if (!isKnown(value)) return UNKNOWN;
  if (value === 0) return "0";
  if (value < 0.05) return "<0.1";
  if (value < 9.95) return ONE.format(value);
  return value < 99_999.5 ? WHOLE.format(value) : scaled(value, THOUSANDS);
}

/**
 * @param {number | null | undefined} value
 * @returns {string}
 */
export function bytes(value) {
  return isKnown(value) ? scaled(value, BYTES) : UNKNOWN;
}

/**
 * @param {number | null | undefined} value a share, 0 to 1
 * @returns {string}
 */
export function percent(value) {
  if (!isKnown(value)) return UNKNOWN;
  const hundredths = Math.min(value, 1) * 100;
  const short = hundredths > 0 && hundredths < 9.95 ? ONE : WHOLE;
  return `${short.format(hundredths)} %`;
}

/**
 * @param {number | null | undefined} seconds a short time, as latencies are
 * @returns {string}
 */
export function latency(seconds) {
  if (!isKnown(seconds)) return UNKNOWN;
  if (seconds < 0.0009995) return `${WHOLE.format(seconds * 1e6)} µs`;
  if (seconds < 0.9995) {
    const milliseconds = seconds * 1e3;
    return `${(milliseconds < 9.95 ? ONE : WHOLE).format(milliseconds)} ms`;
  }
  return `${(seconds < 9.95 ? ONE : WHOLE).format(seconds)} s`;
}

/**
 * @param {number | null | undefined} seconds a long time, as ages are
 * @returns {string} in the two largest units.
 */
export function age(seconds) {
  if (!isKnown(seconds)) return UNKNOWN;
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

/**
 * @param {number} seconds since 1970
 * @param {number} [now] in seconds; on another day than this one the day is told as well
 * @returns {string}
 */
export function clock(seconds, now = Date.now() / 1000) {
  const time = new Date(seconds * 1000);
  const today = new Date(now * 1000).toDateString() === time.toDateString();
  return today ? CLOCK.format(time) : `${DAY.format(time)}, ${CLOCK.format(time)}`;
}

/**
 * @param {number} seconds since 1970
 * @returns {string} day and time
 */
export function moment(seconds) {
  return MOMENT.format(new Date(seconds * 1000));
}

/**
 * Characters that can't be seen, but turn or hide what stands around them: with them a name could
 * look like another one. (A joiner, which emoji need, is not among them.)
 */
const UNSEEN =
  /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/gu;

/**
 * @param {string} text from a client
 * @returns {string} the same, with what can't be seen written out, for example as \u{202e}
 */
export function visible(text) {
  return text.replace(UNSEEN, (character) => `\\u{${character.codePointAt(0).toString(16)}}`);
}

/**
 * @param {number} number
 * @param {string} one
 * @param {string} [many]
 * @returns {string} for example "3 members"
 */
export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
