// Small things that several views draw.

import { html, nothing } from './vendor/lit-html/lit-html.js';
import { copy } from './actions.js';
import { icons } from './icons.js';
import { t } from './i18n.js';
import { changed } from './store.js';

/** @import {Party} from './types.js' */
/** @import {TemplateResult as View} from './vendor/lit-html/lit-html.js' */

/**
 * A handler that takes the value of the field it is on.
 * @param {(value: string) => unknown} take
 */
export const onValue = (take) => (/** @type {{target: HTMLInputElement}} */ { target }) => take(target.value);

/** What was copied a moment ago. */
let copied = '';
let copiedTimer = 0;

/** @param {string} text */
export async function copyAndSay(text) {
  await copy(text);
  copied = text;
  clearTimeout(copiedTimer);
  copiedTimer = setTimeout(() => {
    copied = '';
    changed();
  }, 1_600);
  changed();
}

/**
 * @param {string} text what is copied
 * @param {string} label what the button is called
 * @param {{word?: string, kind?: string}} [look] a word beside the icon; a class
 */
export function copyButton(text, label, { word = '', kind = 'quiet' } = {}) {
  const isDone = copied === text;
  return html`<button type="button" class="button ${kind} ${isDone ? 'done' : ''}" title=${isDone ? t.copied : label}
    aria-label=${isDone ? t.copied : label} @click=${(/** @type {Event} */ event) => {
      event.stopPropagation();
      void copyAndSay(text);
    }}>${isDone ? icons.check : icons.copy}${word ? html`<span>${isDone ? t.copied : word}</span>` : nothing}</button>`;
}

/**
 * @param {View} icon
 * @param {string} label
 * @param {() => void} act
 * @param {{key?: string, kind?: string, pressed?: boolean}} [look] the key that does the same, for the tooltip
 */
export const iconButton = (icon, label, act, { key = '', kind = 'quiet', pressed } = {}) => html`<button type="button"
  class="button ${kind}" title=${key ? `${label} (${key})` : label} aria-label=${label}
  aria-pressed=${pressed === undefined ? nothing : String(pressed)} @click=${act}>${icon}</button>`;

/**
 * A modal dialog that opens when it is drawn.
 * @param {string} title
 * @param {View} content
 * @param {() => void} close
 */
export const dialog = (title, content, close) => html`<dialog class="dialog" aria-label=${title} @close=${close}
  @click=${(/** @type {MouseEvent} */ event) => {
    if (event.target === event.currentTarget) close();
  }}><div class="dialog-body"><header><h2>${title}</h2>${iconButton(icons.close, t.close, close)}</header>${content}</div></dialog>`;

/** @param {Party|null} party */
export const partyName = (party) => party?.name || party?.address || '';

/** Opens a dialog that has just been drawn, where the keyboard is caught inside. */
export function openDialogs() {
  for (const element of document.querySelectorAll('dialog:not([open])')) {
    if (element instanceof HTMLDialogElement) element.showModal();
  }
}
