// The words of the page in the language in use. `t` is a live binding: views read it anew at each drawing.

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
