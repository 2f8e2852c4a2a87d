// The language in use: its words, and how it writes dates, ages, numbers and sizes. `t` is a live binding: views read
// it anew at each drawing.

import en from './i18n/en.js';
import zh from './i18n/zh.js';
import { read, write } from './settings.js';

/** @typedef {typeof en} Words */
/** @typedef {'en'|'zh'} Language */

/** @type {Record<Language, Words>} */
const languages = { en, zh };

/** @type {Language} */
export let language = chosen();
export let t = languages[language];

/** @returns {Language} the remembered one, else the browser's first that there is */
function chosen() {
  const wanted = [read('language'), ...navigator.languages].map((tag) => tag.slice(0, 2).toLowerCase());
  return wanted.find((tag) => tag === 'en' || tag === 'zh') ?? 'en';
}

/** @param {Language} next */
export function setLanguage(next) {
  write('language', next);
  apply(next);
}

/** @param {Language} next */
function apply(next) {
  language = next;
  t = languages[next];
  document.documentElement.lang = next === 'zh' ? 'zh-Hans' : 'en';
}

apply(language);

/** @type {Map<string, Intl.NumberFormat|Intl.DateTimeFormat|Intl.RelativeTimeFormat>} */
const made = new Map();

/**
 * Making a formatter is slow and a list needs thousands of results: each is made once a language.
 * @template {Intl.NumberFormat|Intl.DateTimeFormat|Intl.RelativeTimeFormat} F
 * @template O
 * @param {new (language: string, options: O) => F} Format
 * @param {O} options
 * @returns {F}
 */
function formatter(Format, options) {
  const name = `${language} ${Format.name} ${JSON.stringify(options)}`;
  let format = made.get(name);
  if (!format) made.set(name, (format = new Format(language, options)));
  return /** @type {F} */ (format);
}

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** @param {number} count */
export const number = (count) => formatter(Intl.NumberFormat, {}).format(count);

/** @param {number} bytes */
export function size(bytes) {
  if (bytes < 1_000) return `${number(bytes)}\u00a0B`;
  const [unit, value] =
    bytes < 1e6 ? ['kilobyte', bytes / 1e3] : bytes < 1e9 ? ['megabyte', bytes / 1e6] : ['gigabyte', bytes / 1e9];
  const digits = value < 10 ? 1 : 0;
  return formatter(Intl.NumberFormat, { style: 'unit', unit, unitDisplay: 'short', maximumFractionDigits: digits }).format(value);
}

/** How old, in as few letters as a list has room for; a date after a week. @param {string} time @param {number} [now] */
export function age(time, now = Date.now()) {
  const then = new Date(time);
  const past = Math.max(0, now - then.getTime());
  if (past < MINUTE) return formatter(Intl.RelativeTimeFormat, { numeric: 'auto', style: 'narrow' }).format(0, 'second');
  const [unit, length] = past < HOUR ? ['minute', MINUTE] : past < DAY ? ['hour', HOUR] : ['day', DAY];
  if (past < 7 * DAY) {
    return formatter(Intl.NumberFormat, { style: 'unit', unit, unitDisplay: 'narrow' }).format(Math.floor(past / length));
  }
  const isThisYear = then.getFullYear() === new Date(now).getFullYear();
  return formatter(Intl.DateTimeFormat, isThisYear ? { month: 'short', day: 'numeric' } : { dateStyle: 'short' }).format(then);
}

/** How long from now, or ago: "in 6 days". @param {string} time @param {number} [now] */
export function relative(time, now = Date.now()) {
  const left = new Date(time).getTime() - now;
  const long = Math.abs(left);
  /** @type {[Intl.RelativeTimeFormatUnit, number]} */
  const [unit, length] = long < MINUTE ? ['second', 1_000] : long < HOUR ? ['minute', MINUTE] : long < DAY ? ['hour', HOUR] : ['day', DAY];
  return formatter(Intl.RelativeTimeFormat, { numeric: 'auto' }).format(Math.round(left / length), unit);
}

/** @param {string} time */
export const dateTime = (time) => formatter(Intl.DateTimeFormat, { dateStyle: 'medium', timeStyle: 'medium' }).format(new Date(time));

/** A calendar's own date, without moving it to another zone. @param {Date} date as if it were UTC @param {boolean} wholeDay */
export const calendarDate = (date, wholeDay) =>
  formatter(Intl.DateTimeFormat, { dateStyle: 'full', ...(wholeDay ? {} : { timeStyle: 'short' }), timeZone: 'UTC' }).format(date);
