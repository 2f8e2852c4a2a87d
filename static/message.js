// The right pane: one message, as html, text, headers, source or parts.

import { html, nothing } from './vendor/lit-html/lit-html.js';
import * as api from './api.js';
import { close, openTab, remove, search, setTags } from './actions.js';
import * as format from './i18n.js';
import { t } from './i18n.js';
import { iconOf, partsTab } from './parts.js';
import { TABS } from './route.js';
import { settings } from './settings.js';
import { asFailure, changed, openMessage, setRead, shownSummary, state } from './store.js';
import { linkPieces, matchPieces } from './text.js';
import { copyButton, iconButton, icons, partyName } from './widgets.js';
/** @import {Detail, Party, Summary, Tab} from './types.js' */
/** @import {Width} from './settings.js' */
/** @import {TemplateResult} from './vendor/lit-html/lit-html.js' */

/** Of a text or a source, in characters; the rest is in the download. */
const MOST_SHOWN = 1_000_000;
const MOST_MATCHES = 2_000;
/** Attachments shown before the others are asked for. */
const FIRST_FILES = 3;

/** What belongs to the message in sight and is forgotten with it. */
const fresh = () => ({
  remote: false,
  rawHeaders: false,
  linksOpen: false,
  tagOpen: false,
  filesOpen: false,
  /** @type {string|null} */
  source: null,
  /** @type {api.Failure|null} */
  sourceFailure: null,
  isLoading: false,
  wanted: '',
  match: 0,
});
let view = fresh();
let viewOf = '';

/** @param {Detail} detail @returns {Tab[]} */
const tabsOf = (detail) => TABS.filter((tab) => tab !== 'html' || detail.hasHtml);

/** The tab in sight: the one asked for, or html where there is any. @param {Detail} detail @returns {Tab} */
function currentTab(detail) {
  const { tab } = state.route;
  if (tab && (tab !== 'html' || detail.hasHtml)) return tab;
  return detail.hasHtml ? 'html' : 'text';
}

/** Whether a tab can be opened, for keys; of a message on its way, any. @param {Tab} tab */
export const hasTab = (tab) => Boolean(state.shown && (!state.shown.detail || tabsOf(state.shown.detail).includes(tab)));

/** @param {Party|null} party */
const partyFull = (party) =>
  party?.name && party.address
    ? html`<strong>${party.name}</strong> <span class="address">${party.address}</span>`
    : html`<strong>${partyName(party) || t.noSender}</strong>`;

/** @param {string} name a steady colour for a sender */
const hue = (name) => [...name].reduce((sum, char) => (sum * 31 + (char.codePointAt(0) ?? 0)) % 360, 7);

/** A tag finds its like; the last one is being typed. @param {Summary} summary */
function tagLine({ mailbox, id, tags }) {
  if (!tags.length && !view.tagOpen) return nothing;
  const set = (/** @type {string[]} */ next) => void setTags(`${mailbox}/${id}`, next);
  const add = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const tag = String(new FormData(form).get('tag')).trim();
    if (tag && !tags.includes(tag)) set([...tags, tag]);
    form.reset();
    if (!tag) view.tagOpen = false;
  };
  return html`<div class="tags">${tags.map(
      (tag) => html`<span class="tag"><button type="button" title=${t.searchTag(tag)} @click=${() => search(`tag:"${tag}"`)}>${tag}</button><button type="button"
        title=${t.removeTag(tag)} aria-label=${t.removeTag(tag)} @click=${() => set(tags.filter((each) => each !== tag))}>${icons.close}</button></span>`,
    )}${view.tagOpen
      ? html`<form @submit=${add}><label class="field"><span class="sr">${t.addTag}</span><input name="tag" maxlength="64" placeholder=${t.addTag} autocomplete="off"
          @keydown=${(/** @type {KeyboardEvent} */ event) => {
            if (event.key === 'Escape') view.tagOpen = false;
          }}></label></form>`
      : iconButton(icons.plus, t.addTag, openTag)}</div>`;
}

function openTag() {
  view.tagOpen = true;
  changed();
  setTimeout(() => /** @type {HTMLElement|null} */ (document.querySelector('.tags input'))?.focus(), 50);
}

/** @param {Detail} detail */
function attachmentStrip({ attachments, summary: { mailbox, id } }) {
  if (!attachments.length) return nothing;
  const hasMore = attachments.length > FIRST_FILES + 1 && !view.filesOpen;
  return html`<ul class="attachments" aria-label=${t.attachmentCount(attachments.length)}>${attachments.slice(0, hasMore ? FIRST_FILES : undefined).map(
    ({ n, name, type, size }) => html`<li><a class="button" href=${api.urls.part(mailbox, id, n, true)} download=${name} title=${`${t.downloadPart(name)} (${type})`}>
      ${iconOf({ name, type })}<span class="part-name">${name}</span><span class="part-size">${format.size(size)}</span>${icons.download}</a></li>`,
  )}${hasMore ? html`<li><button type="button" class="button quiet" @click=${() => (view.filesOpen = true)}>${icons.clip}<span>${t.allAttachments(attachments.length)}</span></button></li>` : nothing}</ul>`;
}

/** @param {Summary} summary @param {Party[]} cc */
function header(summary, cc) {
  const sender = partyName(summary.from) || '?';
  const { mailbox, id } = summary;
  const names = (/** @type {Party[]} */ parties) => parties.map((party) => partyName(party)).filter(Boolean);
  const to = names(summary.to);
  const copies = t.cc(names(cc).join(', '));
  return html`<header class="message-head">
    <div class="message-bar">
      ${iconButton(icons.back, t.back, close, { key: 'u', kind: 'quiet back only-narrow' })}
      <h1>${summary.subject || t.noSubject}</h1>
      ${summary.is_read
        ? iconButton(icons.mailbox, t.markUnread, () => void setRead([`${mailbox}/${id}`], false), { key: 'r' })
        : iconButton(icons.opened, t.markRead, () => void setRead([`${mailbox}/${id}`], true), { key: 'r' })}
      ${iconButton(icons.tag, t.addTag, openTag)}
      <a class="button quiet" href=${api.urls.raw(mailbox, id)} download=${`${id}.eml`} title=${t.download} aria-label=${t.download}>${icons.download}</a>
      ${iconButton(icons.trash, t.delete, () => remove([`${mailbox}/${id}`]), { key: '#', kind: 'quiet danger' })}
      ${iconButton(icons.close, t.close, close, { key: 'u', kind: 'quiet only-wide' })}
    </div>
    <div class="people">
      <span class="avatar" .style=${`--hue:${hue(sender)}`} aria-hidden="true">${[...sender][0]?.toUpperCase()}</span>
      <p class="from">${partyFull(summary.from)}</p>
      <p class="when"><time datetime=${summary.received_at} title=${format.dateTime(summary.received_at)}>${format.relative(summary.received_at)}</time></p>
      <p class="to">${t.to(to.join(', ') || mailbox)}${to.includes(mailbox) || !to.length ? nothing : html` <span class="in">${t.inMailbox(mailbox)}</span>`}</p>
      <p class="expires">${summary.expires_at ? t.expires(format.relative(summary.expires_at)) : nothing}</p>
      ${cc.length ? html`<p class="to cc" title=${copies}>${copies}</p>` : nothing}
    </div>
    ${tagLine(summary)}
  </header>`;
}

/** Codes and links that were found, each to copy. @param {Detail} detail */
function findings({ codes, links }) {
  if (!codes.length && !links.length) return nothing;
  return html`<div class="findings">
    ${codes.map((code) => copyButton(code, t.copyCode(code), { word: code, kind: 'code' }))}
    ${links.length
      ? html`<button type="button" class="button quiet" aria-expanded=${String(view.linksOpen)} @click=${() => (view.linksOpen = !view.linksOpen)}>${icons.link}<span>${t.linkCount(links.length)}</span></button>`
      : nothing}
    ${view.linksOpen
      ? html`<ul class="links">${links.map(
          ({ url, text }) => html`<li><a href=${url} target="_blank" rel="noopener noreferrer" title=${url}>${text && text !== url ? html`<strong>${text}</strong> ` : nothing}<span>${url}</span></a>
            ${copyButton(url, t.copyLink)}</li>`,
        )}</ul>`
      : nothing}
  </div>`;
}

/** @param {Detail} detail */
function tabBar(detail) {
  const current = currentTab(detail);
  return html`<div class="tabs" role="tablist" aria-label=${t.views}>${tabsOf(detail).map(
    (tab) => html`<button type="button" role="tab" id=${`tab-${tab}`} aria-selected=${String(tab === current)} aria-controls="tab-panel"
      tabindex=${tab === current ? 0 : -1} title=${`${t.tabs[tab]} (${TABS.indexOf(tab) + 1})`} @click=${() => openTab(tab)}
      @keydown=${onTabKey}>${t.tabs[tab]}${tab === 'parts' ? html`<span class="number">${format.number(detail.partCount)}</span>` : nothing}</button>`,
  )}
  <span class="grow"></span>${current === 'html' ? widthSwitch() : nothing}</div>`;
}

/** @param {KeyboardEvent} event */
function onTabKey(event) {
  if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
  const tabs = [...document.querySelectorAll('[role=tab]')];
  const at = tabs.indexOf(/** @type {Element} */ (event.currentTarget)) + (event.key === 'ArrowRight' ? 1 : -1);
  const next = /** @type {HTMLElement|undefined} */ (tabs[(at + tabs.length) % tabs.length]);
  next?.click();
  next?.focus();
}

function widthSwitch() {
  /** @type {[Width, TemplateResult][]} */
  const widths = [['phone', icons.phone], ['tablet', icons.tablet], ['full', icons.desktop]];
  return html`<div class="switch" role="group" aria-label=${t.width}>${widths.map(([width, icon]) =>
    iconButton(icon, t.widths[width], () => (settings.width = width), { pressed: settings.width === width }),
  )}</div>`;
}

/** @param {Detail} detail */
function htmlTab({ summary: { mailbox, id, subject }, hasRemote }) {
  return html`${hasRemote && !view.remote
      ? html`<p class="remote">${icons.image}<span>${t.remoteOff}</span><button type="button" class="button" @click=${() => (view.remote = true)}>${t.showOnce}</button></p>`
      : nothing}
    <div class="stage ${settings.width}"><iframe sandbox="allow-popups allow-popups-to-escape-sandbox" referrerpolicy="no-referrer"
      title=${subject || t.noSubject} src=${api.urls.html(mailbox, id, view.remote)}></iframe></div>`;
}

/** @param {Detail} detail */
function textTab({ text }) {
  if (!text) return html`<p class="note">${t.noText}</p>`;
  const pieces = linkPieces(text.slice(0, MOST_SHOWN));
  return html`<pre class="text" tabindex="0">${pieces.map(({ text: words, href }) =>
    href ? html`<a href=${href} target="_blank" rel="noopener noreferrer">${words}</a>` : words,
  )}</pre>${text.length > MOST_SHOWN ? html`<p class="note">${t.cut}</p>` : nothing}`;
}

/** @param {Detail} detail */
function headersTab({ headers, envelope }) {
  const raw = headers.map((field) => field.raw || `${field.name}: ${field.value}`).join('\n').replaceAll(/\n{2,}/g, '\n');
  return html`<div class="header-fields">
    ${envelope
      ? html`<h2>${t.envelope}</h2><table class="fields"><tbody>
          ${[
            ['MAIL FROM', `<${envelope.reverse_path}>`],
            ['RCPT TO', envelope.recipients.map((each) => `<${each}>`).join('\n')],
            [envelope.protocol, `${envelope.helo} [${envelope.client}]`],
          ].map(([name, value]) => html`<tr><th scope="row">${name}</th><td>${value}</td></tr>`)}
        </tbody></table>`
      : nothing}
    <h2>${t.tabs.headers}<span class="number">${format.number(headers.length)}</span><span class="grow"></span>
      <button type="button" class="button quiet chip" aria-pressed=${String(view.rawHeaders)} @click=${() => (view.rawHeaders = !view.rawHeaders)}>${t.raw}</button>${copyButton(raw, t.copyHeaders)}</h2>
    ${view.rawHeaders
      ? html`<pre class="source" tabindex="0">${raw}</pre>`
      : html`<table class="fields"><tbody>${headers.map(
          ({ name, value }) => html`<tr><th scope="row">${name}</th><td>${value}</td></tr>`,
        )}</tbody></table>`}
  </div>`;
}

/** @param {Summary} summary */
async function loadSource({ mailbox, id }) {
  const mine = view;
  mine.isLoading = true;
  mine.sourceFailure = null;
  try {
    mine.source = await api.source(mailbox, id);
  } catch (error) {
    mine.sourceFailure = asFailure(error);
  }
  mine.isLoading = false;
  changed();
}

/** @param {number} step @param {number} matches */
function toMatch(step, matches) {
  if (!matches) return;
  view.match = (view.match + step + matches) % matches;
  changed();
  requestAnimationFrame(() => document.querySelector('mark.current')?.scrollIntoView({ block: 'center' }));
}

/** @param {Detail} detail */
function sourceTab({ summary }) {
  if (view.source === null && !view.isLoading && !view.sourceFailure) void loadSource(summary);
  if (view.sourceFailure) {
    return html`<div class="note"><p>${t.failure(view.sourceFailure.cause, view.sourceFailure.detail)}</p>
      <button type="button" class="button" @click=${() => void loadSource(summary)}>${t.tryAgain}</button></div>`;
  }
  if (view.source === null) return bones();
  const pieces = matchPieces(view.source.slice(0, MOST_SHOWN), view.wanted, MOST_MATCHES);
  const matches = pieces.filter(({ isMatch }) => isMatch).length;
  let seen = -1;
  return html`<div class="source-bar">
      <label class="field">${icons.search}<span class="sr">${t.searchSource}</span><input type="search" placeholder=${t.searchSource} .value=${view.wanted}
        @input=${(/** @type {InputEvent} */ event) => {
          view.wanted = /** @type {HTMLInputElement} */ (event.target).value;
          view.match = 0;
          toMatch(0, 1);
        }}
        @keydown=${(/** @type {KeyboardEvent} */ event) => {
          if (event.key === 'Enter') toMatch(event.shiftKey ? -1 : 1, matches);
        }}></label>
      ${view.wanted ? html`<span class="matches" role="status">${matches ? t.matchOf(view.match + 1, matches) : t.noMatch}</span>` : nothing}
      ${iconButton(icons.up, t.previousMatch, () => toMatch(-1, matches))}${iconButton(icons.down, t.nextMatch, () => toMatch(1, matches))}
      <span class="grow"></span>
      ${copyButton(view.source, t.copySource)}
      <a class="button quiet" href=${api.urls.raw(summary.mailbox, summary.id)} download=${`${summary.id}.eml`}>${icons.download}<span>${t.download}</span></a>
    </div>
    <pre class="source" tabindex="0">${pieces.map(({ text, isMatch }) => {
      if (!isMatch) return text;
      seen += 1;
      return html`<mark class=${seen === view.match ? 'current' : ''}>${text}</mark>`;
    })}</pre>${view.source.length > MOST_SHOWN ? html`<p class="note">${t.cut}</p>` : nothing}`;
}

const bones = () => html`<div class="bones skeleton" aria-hidden="true"><span class="bone"></span><span class="bone"></span><span class="bone"></span></div>`;

/** @param {Detail} detail */
function panel(detail) {
  const tab = currentTab(detail);
  const draw = { html: htmlTab, text: textTab, headers: headersTab, source: sourceTab, parts: partsTab }[tab];
  return html`<div class="panel ${tab}" id="tab-panel" role="tabpanel" aria-labelledby=${`tab-${tab}`}>${draw(detail)}</div>`;
}

/** @param {api.Failure} failure */
const notThere = (failure) => html`<div class="nothing-open"><div>${icons.mailbox}
  <p>${failure.cause === 'missing' ? t.messageGone : t.failure(failure.cause, failure.detail)}</p>
  ${failure.cause === 'missing'
    ? html`<button type="button" class="button" @click=${close}>${t.back}</button>`
    : html`<button type="button" class="button" @click=${openMessage}>${t.tryAgain}</button>`}</div></div>`;

export function messagePane() {
  const { shown } = state;
  if (!shown) return nothing;
  if (viewOf !== shown.key) [view, viewOf] = [fresh(), shown.key];
  const summary = shownSummary();
  return html`<article class="message" aria-label=${summary?.subject ?? t.messages} aria-busy=${String(!shown.detail && !shown.failure)}>
    ${shown.failure ? notThere(shown.failure) : summary ? header(summary, shown.detail?.cc ?? []) : bones()}
    ${shown.detail
      ? html`${shown.detail.isDamaged ? html`<p class="remote">${t.damaged}</p>` : nothing}${attachmentStrip(shown.detail)}${findings(shown.detail)}${tabBar(shown.detail)}${panel(shown.detail)}`
      : shown.failure ? nothing : bones()}
  </article>`;
}
