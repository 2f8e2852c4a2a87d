// The parts of a message as a tree; images, PDF and text are shown, calendars and contact cards are read out.

import { html, nothing } from './vendor/lit-html/lit-html.js';
import * as api from './api.js';
import * as format from './i18n.js';
import { t } from './i18n.js';
import { calendar, contacts } from './text.js';
import { asFailure, changed } from './store.js';
import { icons } from './widgets.js';
/** @import {Detail, Part, Summary} from './types.js' */
/** @import {Card} from './text.js' */
/** @import {TemplateResult} from './vendor/lit-html/lit-html.js' */

/** @typedef {'image'|'pdf'|'calendar'|'contacts'|'text'} Kind */

const MOST_TEXT = 200_000;
const DEEPEST = 40;

/** What was read of parts that have been opened, by address: their text, or where a blob of a PDF is. @type {Map<string, string|api.Failure|null>} */
const contents = new Map();
/** @type {string} the open part's address */
let openPart = '';

/** @param {{type: string, name: string}} part @returns {Kind|null} how it can be shown */
function kindOf({ type, name }) {
  if (/^image\/(png|jpeg|gif|webp|avif|bmp)$/.test(type)) return 'image';
  if (type === 'application/pdf') return 'pdf';
  if (type === 'text/calendar' || /\.ics$/i.test(name)) return 'calendar';
  if (type === 'text/vcard' || type === 'text/x-vcard' || /\.vcf$/i.test(name)) return 'contacts';
  if (type.startsWith('text/') || type === 'application/json' || type === 'message/delivery-status') return 'text';
  return null;
}

/** @param {{type: string, name: string, children?: Part[]}} part */
export function iconOf(part) {
  if (part.children?.length) return icons.folder;
  const kind = kindOf(part);
  return kind === 'image' ? icons.image : kind === 'calendar' ? icons.calendar : kind === 'contacts' ? icons.person : icons.file;
}

/** @param {string} address @param {Summary} summary @param {number} n @param {Kind|null} kind */
async function load(address, { mailbox, id }, n, kind) {
  contents.set(address, null);
  try {
    const response = await api.part(mailbox, id, n);
    // The server sends PDF to be saved only; from here it is shown by the browser's own viewer.
    contents.set(address, kind === 'pdf' ? URL.createObjectURL(new Blob([await response.arrayBuffer()], { type: 'application/pdf' })) : await response.text());
  } catch (error) {
    contents.set(address, asFailure(error));
  }
  changed();
}

/** @param {Card[]} cards */
const readout = (cards) =>
  cards.length
    ? cards.map(
        ({ title, fields }) => html`<section class="card"><h3>${title || t.noSubject}</h3><table class="fields"><tbody>${fields.map(
          ([name, field]) => html`<tr><th scope="row">${t.readout[/** @type {keyof typeof t.readout} */ (name)]}</th>
            <td>${field.kind === 'text' ? field.value : `${format.calendarDate(field.value, field.wholeDay)}${field.zone ? ` (${field.zone})` : ''}`}</td></tr>`,
        )}</tbody></table></section>`,
      )
    : html`<p class="note">${t.nothingToRead}</p>`;

/** @param {Part} part @param {Summary} summary @param {number} n */
function preview(part, summary, n) {
  const { mailbox, id } = summary;
  const address = api.urls.part(mailbox, id, n);
  const kind = kindOf(part);
  if (kind === 'image') return html`<img class="preview" src=${address} alt=${part.name || part.type}>`;
  if (!contents.has(address)) void load(address, summary, n, kind);
  const text = contents.get(address);
  if (text instanceof api.Failure) return html`<p class="note">${t.failure(text.cause, text.detail)}</p>`;
  if (typeof text !== 'string') return nothing;
  if (kind === 'pdf') return html`<iframe class="preview pdf" src=${text} title=${part.name || part.type}></iframe>`;
  if (kind === 'calendar') return readout(calendar(text));
  if (kind === 'contacts') return readout(contacts(text));
  return html`<pre class="source" tabindex="0">${text.slice(0, MOST_TEXT)}</pre>${text.length > MOST_TEXT ? html`<p class="note">${t.cut}</p>` : nothing}`;
}

/**
 * @param {Part} part
 * @param {Summary} summary
 * @param {number} depth
 * @returns {TemplateResult}
 */
function node(part, summary, depth) {
  const { n, type, name, size, children } = part;
  const address = n === null ? '' : api.urls.part(summary.mailbox, summary.id, n);
  const isOpen = address !== '' && address === openPart;
  const label = html`${iconOf(part)}<span class="part-name">${name || type}</span>
    <span class="part-type">${name ? type : ''}</span><span class="part-size">${children.length ? '' : format.size(size)}</span>`;
  return html`<li>
    <div class="part ${isOpen ? 'open' : ''}">
      ${n !== null && kindOf(part)
        ? html`<button type="button" class="part-label" aria-expanded=${String(isOpen)} @click=${() => (openPart = isOpen ? '' : address)}>${label}</button>`
        : html`<span class="part-label">${label}</span>`}
      ${n === null ? nothing : html`<a class="button quiet" href=${api.urls.part(summary.mailbox, summary.id, n, true)} download=${name || `part-${n}`} title=${t.downloadPart(name || type)} aria-label=${t.downloadPart(name || type)}>${icons.download}</a>`}
    </div>
    ${isOpen && n !== null ? html`<div class="part-preview">${preview(part, summary, n)}</div>` : nothing}
    ${children.length && depth < DEEPEST ? html`<ul>${children.map((child) => node(child, summary, depth + 1))}</ul>` : nothing}
  </li>`;
}

/** @param {Detail} detail */
export const partsTab = ({ parts, summary }) =>
  parts.length ? html`<ul class="part-tree">${parts.map((part) => node(part, summary, 0))}</ul>` : html`<p class="note">${t.noParts}</p>`;
