// The page's words in its language, and numbers and times as that language writes them.
import { config, words } from "./config.js";

export const lang = config.lang;

/** What stands between two things in a row. */
export const comma = { ar: "، ", zh: "，" }[lang] ?? ", ";

/**
 * A text by its key; `{name}` in it is replaced. A text that depends on a count has a key for each
 * plural form of the language, such as "votes.left.one" and "votes.left.other", and wants `n`.
 */
export function t(key, values = {}) {
  const form = "n" in values ? `${key}.${plural.select(values.n)}` : key;
  const text = words[form] ?? words[`${key}.other`] ?? words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    if (value === undefined) return whole;
    return typeof value === "number" ? number(value) : isolated(value);
  });
}

/** From right to left, a name or a size keeps its own order only apart from the text around it. */
const isolated = (text) => (document.dir === "rtl" ? `\u2068${text}\u2069` : text);

/** A sentence that the server gave as a key with what is put into it; versions get their name. */
export function sentence({ key, params }) {
  const named = { ...params };
  for (const name of ["version", "other"])
    if (typeof named[name] === "number") named[name] = t("page.version", { number: named[name] });
    else if (name in named) named[name] = t("page.new_version"); // it was never served
  return t(key, named);
}

/**
 * A sentence of the server: it has its English text, the template and what fills it. The
 * template's translation is in `server.json`; a text without one, such as a recorded one, stays.
 */
export function said({ text, template, values }) {
  if (!has(template) && !has(`${template}.other`)) return text;
  const fill = (value, name) => {
    if (typeof value === "object") return said(value);
    return typeof value === "number" && name !== "n" ? number(value, 1) : value;
  };
  const filled = Object.entries(values).map(([name, value]) => [name, fill(value, name)]);
  return t(template, Object.fromEntries(filled));
}

/** Whether the page has a text of this key. */
export const has = (key) => key in words;

const plural = new Intl.PluralRules(lang);

export const number = (value, digits = 0, more = {}) =>
  new Intl.NumberFormat(lang, { maximumFractionDigits: digits, ...more }).format(value);

export const percent = (share, digits = 0) =>
  new Intl.NumberFormat(lang, { style: "percent", maximumFractionDigits: digits }).format(share);

/** A stored time (ISO 8601) in words: "today, 14:03", "yesterday, 09:10", "3 Nov 2026". */
export function when(iso) {
  const time = new Date(iso);
  const days = daysAgo(time);
  const clock = new Intl.DateTimeFormat(lang, { timeStyle: "short" }).format(time);
  if (days < 2) return `${relative.format(-days, "day")}${lang === "zh" ? " " : comma}${clock}`;
  return new Intl.DateTimeFormat(lang, { dateStyle: "medium" }).format(time);
}

/** How many midnights ago a time was. */
export function daysAgo(time) {
  const midnight = (date) => new Date(date).setHours(0, 0, 0, 0);
  return Math.round((midnight(new Date()) - midnight(time)) / 86_400_000);
}

const relative = new Intl.RelativeTimeFormat(lang, { numeric: "auto" });

/** A duration in seconds as "1:05" or "2:03:09". */
export function duration(seconds) {
  const two = (value) => String(value).padStart(2, "0");
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
