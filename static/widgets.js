// Small things that several views draw.

import { html, nothing, svg } from './vendor/lit-html/lit-html.js';
import { copy } from './actions.js';
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
 * @param {{word?: string, kind?: string, icon?: View}} [look] a word beside the icon; a class
 */
export function copyButton(text, label, { word = '', kind = 'quiet', icon = icons.copy } = {}) {
  const isDone = copied === text;
  return html`<button type="button" class="button ${kind} ${isDone ? 'done' : ''}" title=${isDone ? t.copied : label}
    aria-label=${isDone ? t.copied : label} @click=${(/** @type {Event} */ event) => {
      event.stopPropagation();
      void copyAndSay(text);
    }}>${isDone ? icons.check : icon}${word ? html`<span>${isDone ? t.copied : word}</span>` : nothing}</button>`;
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

// ---- icons: 20 units square, lines in the colour of the text beside them ----

/** @param {ReturnType<typeof svg>} shape */
const icon = (shape) => svg`<svg class="icon" viewBox="0 0 20 20" width="16" height="16" fill="none" stroke="currentColor"
  stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">${shape}</svg>`;

export const icons = {
  plus: icon(svg`<path d="M10 4v12M4 10h12"/>`),
  search: icon(svg`<circle cx="9" cy="9" r="5.2"/><path d="m13 13 4 4"/>`),
  inbox: icon(svg`<path d="M3 11.5 5.2 4h9.6L17 11.5V16H3zM3 11.5h4l1 2h4l1-2h4"/>`),
  mailbox: icon(svg`<rect x="2.8" y="4.5" width="14.4" height="11" rx="1.6"/><path d="m3.2 5.6 6.8 5.2 6.8-5.2"/>`),
  opened: icon(svg`<path d="M3 8.2 10 3.4l7 4.8V16H3zM3.2 8.4 10 12.6l6.8-4.2"/>`),
  copy: icon(svg`<rect x="7" y="7" width="9.5" height="9.5" rx="1.6"/><path d="M13 7V5a1.5 1.5 0 0 0-1.5-1.5H5A1.5 1.5 0 0 0 3.5 5v6.5A1.5 1.5 0 0 0 5 13h2"/>`),
  check: icon(svg`<path d="m4 10.5 4 4 8-9"/>`),
  trash: icon(svg`<path d="M3.5 5.5h13M8 5.5v-2h4v2M5 5.5l.8 11h8.4l.8-11M8.5 8.5v5M11.5 8.5v5"/>`),
  download: icon(svg`<path d="M10 3v9.5M6 9l4 4 4-4M3.5 16.5h13"/>`),
  clip: icon(svg`<path d="m15.5 9.5-5.6 5.6a3.4 3.4 0 0 1-4.8-4.8l6.3-6.3a2.2 2.2 0 0 1 3.2 3.2l-6.2 6.2a1.1 1.1 0 0 1-1.6-1.6L12.3 6.6"/>`),
  back: icon(svg`<path d="M12.5 4 6.5 10l6 6"/>`),
  up: icon(svg`<path d="m5 12 5-5 5 5"/>`),
  down: icon(svg`<path d="m5 8 5 5 5-5"/>`),
  menu: icon(svg`<path d="M3.5 5.5h13M3.5 10h13M3.5 14.5h13"/>`),
  close: icon(svg`<path d="m5 5 10 10M15 5 5 15"/>`),
  clock: icon(svg`<circle cx="10" cy="10" r="6.8"/><path d="M10 6v4l2.6 1.8"/>`),
  renew: icon(svg`<path d="M16 10a6 6 0 1 1-1.8-4.3L16 7.5M16 3.5v4h-4"/>`),
  sun: icon(svg`<circle cx="10" cy="10" r="3.4"/><path d="M10 2v1.8M10 16.2V18M2 10h1.8M16.2 10H18M4.4 4.4l1.2 1.2M14.4 14.4l1.2 1.2M15.6 4.4l-1.2 1.2M5.6 14.4l-1.2 1.2"/>`),
  moon: icon(svg`<path d="M16.5 11.7A6.8 6.8 0 0 1 8.3 3.5a6.8 6.8 0 1 0 8.2 8.2z"/>`),
  sliders: icon(svg`<path d="M3 6h7M14 6h3M3 14h3M10 14h7"/><circle cx="12" cy="6" r="2"/><circle cx="8" cy="14" r="2"/>`),
  keyboard: icon(svg`<rect x="2.5" y="5" width="15" height="10.5" rx="1.6"/><path d="M5.5 8.2h.01M8.5 8.2h.01M11.5 8.2h.01M14.5 8.2h.01M6.5 12.3h7"/>`),
  tag: icon(svg`<path d="M3.5 9.7V3.5h6.2l7 7-6.2 6.2z"/><circle cx="6.8" cy="6.8" r=".7"/>`),
  link: icon(svg`<path d="M8.5 11.5a3 3 0 0 0 4.3 0l2.9-2.9a3 3 0 0 0-4.3-4.3l-1 1M11.5 8.5a3 3 0 0 0-4.3 0l-2.9 2.9a3 3 0 0 0 4.3 4.3l1-1"/>`),
  key: icon(svg`<circle cx="6.5" cy="13.5" r="3.2"/><path d="m9 11 7-7M13 7l2.5 2.5"/>`),
  image: icon(svg`<rect x="3" y="4" width="14" height="12" rx="1.6"/><circle cx="7.3" cy="8.2" r="1.3"/><path d="m3.5 14.5 4-3.5 3 2.5 3-3 3.5 3.5"/>`),
  file: icon(svg`<path d="M5 2.8h6.5L15.5 7v10.2H5zM11.3 3v4.2h4"/>`),
  folder: icon(svg`<path d="M3 5h5l1.5 2H17v9H3z"/>`),
  calendar: icon(svg`<rect x="3" y="4.5" width="14" height="12" rx="1.6"/><path d="M3 8.5h14M7 2.8v3M13 2.8v3"/>`),
  person: icon(svg`<circle cx="10" cy="7" r="3.2"/><path d="M3.8 17a6.3 6.3 0 0 1 12.4 0"/>`),
  phone: icon(svg`<rect x="6" y="2.5" width="8" height="15" rx="1.6"/><path d="M9.2 15h1.6"/>`),
  tablet: icon(svg`<rect x="4" y="2.5" width="12" height="15" rx="1.6"/><path d="M9.2 15h1.6"/>`),
  desktop: icon(svg`<rect x="2.5" y="3.5" width="15" height="10" rx="1.6"/><path d="M7 17h6M10 13.5V17"/>`),
  broom: icon(svg`<path d="M3.5 10h4l1 2.2h3l1-2.2h4M3.5 10v6h13v-6M10 2.8v5M7.5 5.5 10 8l2.5-2.5"/>`),
};
