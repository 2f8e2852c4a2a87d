// The middle pane: a virtual list. Only rows in sight are in the document, and rows that arrive above move nothing that
// is being read.

import { html, nothing } from './vendor/lit-html/lit-html.js';
import { clearSelection, open, remove, search, selectAll, toggleSelected } from './actions.js';
import * as format from './i18n.js';
import { t } from './i18n.js';
import { keyOf } from './messages.js';
import { canRead, changed, counts, linkTo, live, loadMore, reloadList, rows, setRead, state, totalRows } from './store.js';
import { copyButton, iconButton, icons, partyName } from './widgets.js';
/** @import {Summary} from './types.js' */

const small = matchMedia('(max-width: 599px)');
const rowHeight = () => (small.matches ? 88 : 76);
/** Rows drawn beyond the edges. */
const MARGIN = 6;
/** Rows before the end at which the next page is asked for. */
const AHEAD = 60;
/** Browsers stop at some 17 million pixels. */
const TALLEST = 15_000_000;
const AT_TOP = 8;

/** Where the reader is: the first row in sight and how far it is scrolled out. */
const place = {
  top: 0,
  height: 800,
  /** @type {string|null} */
  anchor: null,
  offset: 0,
  /** @type {unknown} */
  list: null,
  version: -1,
  /** @type {Summary[]} */
  rows: [],
  /** @type {string|null} */
  current: null,
};

const scroller = () => document.querySelector('.list-scroll');

/** @param {number} top */
function moveTo(top) {
  const height = rowHeight();
  place.top = Math.max(0, top);
  const row = place.rows[Math.floor(place.top / height)];
  place.anchor = row ? keyOf(row) : null;
  place.offset = place.top % height;
}

function onScroll() {
  const element = scroller();
  if (!element || element.scrollTop === place.top) return;
  moveTo(element.scrollTop);
  changed();
}

/** @param {string} key */
function indexOf(key) {
  const message = state.list.get(key);
  return message ? rows().indexOf(message) : -1;
}

/** Before drawing: the place follows the row that is being read, and the row that keys have moved to. */
function follow() {
  const list = rows();
  const height = rowHeight();
  if (place.list !== state.list) {
    Object.assign(place, { list: state.list, top: 0, anchor: null, offset: 0, current: null });
  } else if (list !== place.rows || state.list.version !== place.version) {
    const at = place.top > AT_TOP && place.anchor ? indexOf(place.anchor) : -1;
    if (at >= 0) place.top = at * height + place.offset;
  }
  place.rows = list;
  place.version = state.list.version;
  if (state.current !== place.current) {
    place.current = state.current;
    const at = state.current ? indexOf(state.current) : -1;
    if (at >= 0 && at * height < place.top) moveTo(at * height);
    else if (at >= 0 && (at + 1) * height > place.top + place.height) moveTo((at + 1) * height - place.height);
  }
  if (place.top <= AT_TOP) state.unseenAbove = 0;
}

let focusedRow = '';
/** The row that the pointer went down on: if another has come to stand there since, the click was not meant for it. */
let pressedRow = '';

/** After drawing: scrolls to the place, focuses the row that keys have moved to, asks for what is missing. */
export function settleList() {
  const element = scroller();
  if (!element) return;
  if (element.clientHeight && element.clientHeight !== place.height) {
    place.height = element.clientHeight;
    changed();
  }
  if (Math.abs(element.scrollTop - place.top) > 1) element.scrollTop = place.top;
  const focused = document.activeElement;
  const isStray = focused instanceof HTMLElement && focused.matches('.row:not(.current) > a');
  if (state.current && (isStray || (state.current !== focusedRow && (focused === document.body || element.contains(focused))))) {
    const link = /** @type {HTMLElement|null} */ (element.querySelector('.row.current a'));
    if (link) link.focus({ preventScroll: true });
    else if (isStray) focused.blur();
  }
  focusedRow = state.current ?? '';
  const last = Math.ceil((place.top + place.height) / rowHeight());
  if (last + AHEAD > place.rows.length) void loadMore();
}

/** @param {MouseEvent} event @param {string} key */
function onRowClick(event, key) {
  if (event.ctrlKey || event.metaKey || event.button !== 0) return;
  event.preventDefault();
  if (event.detail > 0 && pressedRow !== key) return;
  if (event.shiftKey) toggleSelected(key, true);
  else open(key);
}

/** @param {Summary} message @param {number} at */
function row(message, at) {
  const key = keyOf(message);
  const [code] = message.codes;
  const isSelected = state.selected.has(key);
  const sender = partyName(message.from) || t.noSender;
  const age = format.age(message.received_at);
  return html`<div role="listitem" aria-setsize=${totalRows()} aria-posinset=${at + 1} .style=${`transform:translateY(${at * rowHeight()}px)`}
    class="row ${message.is_read ? '' : 'unread'} ${isSelected ? 'selected' : ''} ${state.current === key ? 'current' : ''} ${state.shown?.key === key ? 'open' : ''}">
    <label class="check" title=${`${t.keys.select} (x)`}><input type="checkbox" .checked=${isSelected} aria-label=${t.selectMessage(sender)}
      @click=${(/** @type {MouseEvent} */ event) => toggleSelected(key, event.shiftKey)}></label>
    <a href=${linkTo({ message: { mailbox: message.mailbox, id: message.id } })} tabindex=${state.current === key || (state.current === null && at === 0) ? 0 : -1}
      aria-current=${state.shown?.key === key ? 'true' : nothing} @pointerdown=${() => (pressedRow = key)} @click=${(/** @type {MouseEvent} */ event) => onRowClick(event, key)}>
      <span class="line"><span class="from">${message.is_read ? nothing : html`<span class="sr">${t.unread}: </span>`}${sender}${state.route.mailbox === null
        ? html`<span class="to" title=${message.mailbox}> → ${message.mailbox}</span>`
        : nothing}</span>${message.attachments ? html`<span class="clip" title=${t.attachmentCount(message.attachments)}>${icons.clip}</span>` : nothing}<time
        datetime=${message.received_at} title=${format.dateTime(message.received_at)}>${age}</time></span>
      <span class="line"><span class="subject">${message.subject || t.noSubject}</span><span class="size">${format.size(message.size)}</span></span>
      <span class="line"><span class="preview">${message.preview}</span>${message.tags.map((tag) => html`<span class="tag">${tag}</span>`)}</span>
    </a>
    ${code ? copyButton(code, t.copyCode(code), { word: code, kind: 'code' }) : nothing}
  </div>`;
}

/** Rows drawn while nothing is known. */
const SKELETONS = 8;

/** @param {number} at */
const skeletonRow = (at) => html`<div class="row skeleton" aria-hidden="true" .style=${`transform:translateY(${at * rowHeight()}px)`}><span class="bone"></span><span class="bone"></span><span class="bone"></span></div>`;

function rowsInSight() {
  const height = rowHeight();
  const isLoaded = state.list.isLoaded;
  const total = Math.min(isLoaded ? totalRows() : SKELETONS, Math.floor(TALLEST / height));
  const count = Math.ceil(place.height / height) + 2 * MARGIN;
  const from = Math.max(0, Math.min(total - count, Math.floor(place.top / height) - MARGIN));
  // A row keeps its element while it is in sight: element i of n shows the row whose number leaves i over n.
  const slots = Array.from({ length: Math.min(count, total) }, (_, slot) => {
    const at = from + ((((slot - from) % count) + count) % count);
    const message = place.rows[at];
    return at >= total ? nothing : message ? row(message, at) : skeletonRow(at);
  });
  return html`<div class="spacer" .style=${`height:${total * height}px`}>${slots}</div>`;
}

function head() {
  const { mailbox, q } = state.route;
  const onlyUnread = /(^|\s)is:unread(\s|$)/.test(q);
  const isStart = mailbox === null && !canRead(mailbox);
  const title = isStart ? t.mailboxes : q ? t.searchResults : (mailbox ?? t.allMail);
  const { unread } = (mailbox === null ? counts() : state.mailboxes.get(mailbox)) ?? { unread: 0 };
  const [figure, ...word] = t.messageCount(q ? rows().length : totalRows()).split(' ');
  const isOpenEnded = q && state.list.next !== null;
  return html`<header class="list-head">
    ${iconButton(icons.menu, t.mailboxes, () => (state.drawer = true), { kind: 'quiet only-narrow' })}
    <h1 title=${title}>${title}</h1>
    ${isStart ? nothing : html`<span class="total">${state.list.isLoaded ? html`<span>${figure}${isOpenEnded ? '+' : ''}</span> <span>${word.join(' ')}</span>` : nothing}</span>
    <button type="button" class="button quiet chip" aria-pressed=${String(onlyUnread)} @click=${() =>
      search(onlyUnread ? q.replace(/(^|\s)is:unread(?=\s|$)/, '').trim() : `${q} is:unread`.trim())}>${unread && !q ? t.unreadCount(unread) : t.unread}</button>`}
  </header>`;
}

function selectionHead() {
  const keys = [...state.selected];
  return html`<header class="list-head selection">
    ${iconButton(icons.close, t.clearSelection, clearSelection, { key: 'Esc' })}
    <h1>${t.selectedCount(keys.length)}</h1>
    <button type="button" class="button quiet" @click=${selectAll}>${t.selectAll}</button>
    ${iconButton(icons.opened, t.markRead, () => void setRead(keys, true), { key: 'r' })}
    ${iconButton(icons.mailbox, t.markUnread, () => void setRead(keys, false))}
    ${iconButton(icons.trash, t.delete, () => remove(keys), { key: '#', kind: 'quiet danger' })}
  </header>`;
}

/** Says so when the server has been away for longer than a blink. */
function strip() {
  const { live: connection, listFailure } = state;
  if (connection.kind === 'waiting' && connection.failures > 1) {
    const seconds = Math.max(0, Math.ceil((connection.until - Date.now()) / 1000));
    return html`<p class="strip" role="status">${t.serverSilent(seconds)}<button type="button" class="button link" @click=${() => live.connectNow()}>${t.tryNow}</button></p>`;
  }
  if (listFailure && rows().length) {
    return html`<p class="strip" role="status">${t.failure(listFailure.cause, listFailure.detail)}<button type="button" class="button link" @click=${reloadList}>${t.tryAgain}</button></p>`;
  }
  return nothing;
}

const searchHelp = () => html`<button type="button" class="button" @click=${() => search('')}>${t.clearSearch}</button>
  <dl class="operators" aria-label=${t.searchSyntax}>${t.operators.map(([term, meaning]) => html`<dt>${term}</dt><dd>${meaning}</dd>`)}</dl>`;

function emptyState() {
  const { listFailure, route } = state;
  // A search that cannot be read fails again, however often it is tried.
  if (listFailure && route.q && listFailure.cause === 'invalid') {
    return html`<div class="empty-list">${icons.search}<p>${t.badSearch(listFailure.detail)}</p>${searchHelp()}</div>`;
  }
  if (listFailure) {
    return html`<div class="empty-list"><p>${t.failure(listFailure.cause, listFailure.detail)}</p>
      <button type="button" class="button" @click=${reloadList}>${t.tryAgain}</button></div>`;
  }
  if (route.q) {
    return html`<div class="empty-list">${icons.search}<p>${t.nothingFound(route.q)}</p>${searchHelp()}</div>`;
  }
  return html`<div class="empty-list">${icons.inbox}<p>${t.noMail}</p></div>`;
}

/** There is a list, and nothing in it. */
export const isListEmpty = () => state.list.isLoaded && state.list.next === null && rows().length === 0;

function toTop() {
  moveTo(0);
  changed();
}

export function listPane() {
  follow();
  const isBare = isListEmpty() || (!state.list.isLoaded && state.listFailure);
  return html`<section class="list" aria-label=${t.messages} aria-busy=${String(!state.list.isLoaded)}>
    ${state.selected.size ? selectionHead() : head()} ${strip()}
    ${isBare
      ? emptyState()
      : html`<div class="list-scroll" role="list" aria-label=${t.messages} @scroll=${onScroll}>${rowsInSight()}</div>`}
    ${state.unseenAbove
      ? html`<button type="button" class="pill" @click=${toTop}>${icons.up}${t.newMessages(state.unseenAbove)}</button>`
      : nothing}
    <p class="sr" role="status">${state.unseenAbove ? t.newMessages(state.unseenAbove) : ''}</p>
  </section>`;
}
