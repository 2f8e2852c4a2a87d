// Draws the page and starts it. Every change draws the whole page again; lit-html touches only what differs.

import { html, nothing, render } from './vendor/lit-html/lit-html.js';
import { carryOutAll, deleteMailbox, emptyAll, emptyMailbox, search, undo } from './actions.js';
import { nothingOpen, sidebar, tokenForm, welcome } from './addresses.js';
import { language, setLanguage, t } from './i18n.js';
import { keyList, listenToKeys } from './keys.js';
import { isListEmpty, listPane, settleList } from './list.js';
import { messagePane } from './message.js';
import { announceArrival, ring, setNotifies, showUnread } from './notify.js';
import { onSystemTheme, settings } from './settings.js';
import { begin, canRead, changed, counts, isTokenMode, live, onArrival, onChange, say, start, state } from './store.js';
import { dialog, iconButton, icons, onValue, openDialogs } from './widgets.js';
/** @import {Language} from './i18n.js' */

const SEARCH_WORDS = ['from:', 'to:', 'subject:', 'has:attachment', 'is:unread', 'before:', 'after:', 'larger:', 'smaller:', 'tag:'];
const TYPING_MS = 250;
/** @type {[Language, string, string][]} */
const LANGUAGES = [['en', 'EN', 'English'], ['zh', '中文', '中文']];

let typed = '';
let typedOf = '';
let typingTimer = 0;

/** @param {string} q */
function typeSearch(q, delay = TYPING_MS) {
  typed = q;
  clearTimeout(typingTimer);
  typingTimer = setTimeout(() => {
    if (typed.trim() !== state.route.q) search(typed.trim());
  }, delay);
  changed();
}

function searchField() {
  if (typedOf !== state.route.q) typed = typedOf = state.route.q;
  return html`<search class="search"><label class="field">${icons.search}<span class="sr">${t.search}</span>
    <input type="search" placeholder=${t.searchHint} autocomplete="off" spellcheck="false" .value=${typed}
      @input=${onValue((value) => typeSearch(value))}
      @keydown=${(/** @type {KeyboardEvent} */ event) => {
        if (event.key === 'Enter') typeSearch(typed, 0);
      }}><kbd>/</kbd></label>
    <div class="search-words" aria-label=${t.searchSyntax}>${SEARCH_WORDS.map(
      (word) => html`<button type="button" class="button chip" @click=${() => {
        typeSearch(`${typed.trimEnd()} ${word}`.trimStart());
        /** @type {HTMLElement|null} */ (document.querySelector('.search input'))?.focus();
      }}>${word}</button>`,
    )}</div></search>`;
}

/** A word and a colour. */
function liveWord() {
  const { live: connection } = state;
  // Before the server says who may read, and without a token, there is nothing to follow.
  if (!state.server || (isTokenMode() && state.mailboxes.size === 0)) return nothing;
  const seconds = connection.kind === 'waiting' ? Math.max(1, Math.ceil((connection.until - Date.now()) / 1000)) : 0;
  const word = connection.kind === 'waiting' ? t.live.waiting(seconds) : t.live[connection.kind];
  return html`<button type="button" class="status ${connection.kind}" role="status" title=${t.liveHint[connection.kind]} @click=${() => live.connectNow()}>
    <span class="dot"></span><span class="word">${word}</span></button>`;
}

/** @param {string} label @param {boolean} on @param {(on: boolean) => void} set */
const toggle = (label, on, set) => html`<label class="toggle"><span>${label}</span>
  <input type="checkbox" role="switch" .checked=${on} @change=${(/** @type {Event} */ event) => set(/** @type {HTMLInputElement} */ (event.target).checked)}></label>`;

const languageSwitch = () => html`<div class="languages" role="group" aria-label=${t.language}>${LANGUAGES.map(
  ([tag, word, name]) => html`<button type="button" class="button quiet" lang=${tag} title=${name} aria-pressed=${String(language === tag)} @click=${() => setLanguage(tag)}>${word}</button>`,
)}</div>`;

const settingsMenu = () => html`<details class="menu"><summary class="button quiet" title=${t.settings} aria-label=${t.settings}>${icons.sliders}</summary>
  <div class="menu-body">
    ${toggle(t.notifications, settings.notifies, (on) => void setNotifies(on))}
    ${toggle(t.sound, settings.sounds, (on) => {
      settings.sounds = on;
      if (on) ring();
    })}
    ${toggle(t.dark, settings.isDark, setDark)}
    <div class="only-small">${languageSwitch()}</div>
    <button type="button" class="menu-item" @click=${showKeys}>${icons.keyboard}<span>${t.keys.help}</span><kbd>?</kbd></button>
    <p class="version"><a href="docs">${t.apiDocs}</a>${state.server?.version ? html`<span>Mailroom ${state.server.version}</span>` : nothing}</p>
  </div></details>`;

/** @param {boolean} dark */
function setDark(dark) {
  settings.isDark = dark;
}

function closeMenu() {
  document.querySelector('details.menu[open]')?.removeAttribute('open');
}

function showKeys() {
  closeMenu();
  state.dialog = { kind: 'keys' };
}

const topBar = () => html`<header class="top">
  <a class="brand" href="#/all"><img src="favicon.svg" width="22" height="22" alt=""><span>Mailroom</span></a>
  ${searchField()}
  <div class="top-tools">
    ${liveWord()}
    ${languageSwitch()}
    ${iconButton(settings.isDark ? icons.sun : icons.moon, settings.isDark ? t.toLight : t.toDark, () => setDark(!settings.isDark), { kind: 'quiet theme' })}
    ${settingsMenu()}
  </div>
</header>`;

function closeDialog() {
  state.dialog = null;
}

/** @param {string} question @param {string} verb @param {() => unknown} act */
const confirmation = (question, verb, act) => html`<p>${question}</p>
  <p class="dialog-actions"><button type="button" class="button" autofocus @click=${closeDialog}>${t.cancel}</button>
  <button type="button" class="button danger solid" @click=${() => {
    closeDialog();
    void act();
  }}>${verb}</button></p>`;

function openDialog() {
  const shown = state.dialog;
  switch (shown?.kind) {
    case undefined:
      return nothing;
    case 'keys':
      return dialog(t.keys.help, keyList(), closeDialog);
    case 'token':
      return dialog(t.tokenTitle, html`<p>${t.tokenLead}</p>${tokenForm(shown.mailbox, closeDialog)}`, closeDialog);
    case 'empty-all':
      return dialog(t.emptyAll, confirmation(t.emptyAllQuestion(counts().messages), t.empty, emptyAll), closeDialog);
    case 'delete-mailbox':
      return dialog(t.deleteMailbox, confirmation(t.deleteMailboxQuestion(shown.mailbox), t.delete, () => deleteMailbox(shown.mailbox)), closeDialog);
    case 'empty-mailbox':
      return dialog(t.emptyMailbox, confirmation(t.emptyMailboxQuestion(shown.mailbox), t.empty, () => emptyMailbox(shown.mailbox)), closeDialog);
  }
}

function snackbar() {
  const deletion = state.deletions.at(-1);
  if (state.notice) {
    return html`<div class="snack" role="status"><span>${state.notice}</span>${iconButton(icons.close, t.close, () => say(''))}</div>`;
  }
  if (!deletion) return nothing;
  return html`<div class="snack" role="status"><span>${t.deletedCount(deletion.keys.size)}</span>
    <button type="button" class="button link" @click=${undo}>${t.undo}<kbd>z</kbd></button></div>`;
}

/** Instead of everything, when the server does not say what it is. @param {import('./types.js').Silence} silence */
function silent({ failure, until }) {
  const seconds = Math.max(0, Math.ceil((until - Date.now()) / 1000));
  return html`<main class="silent" role="alert"><div>${icons.mailbox}
    <p>${failure.cause === 'network' ? t.serverSilent(seconds) : `${t.failure(failure.cause, failure.detail)} ${t.askingAgain(seconds)}`}</p>
    <button type="button" class="button" @click=${begin}>${t.tryAgain}</button></div></main>`;
}

function page() {
  if (state.silence) return html`${topBar()} ${silent(state.silence)}`;
  const isWelcome = isListEmpty() && (!state.route.q || !canRead(state.route.mailbox)) && !state.shown;
  const pane = state.shown ? 'message' : 'list';
  return html`${topBar()}
    <main class="panes show-${pane} ${isWelcome ? 'is-welcome' : ''} ${state.drawer ? 'drawer-open' : ''}">
      ${sidebar()}
      <div class="scrim" @click=${() => (state.drawer = false)}></div>
      ${listPane()} ${isWelcome ? welcome() : state.shown ? messagePane() : nothingOpen()}
    </main>
    ${snackbar()} ${openDialog()}`;
}

const app = /** @type {HTMLElement} */ (document.getElementById('app'));

let drawn = state.route;

onChange(() => {
  if (state.route !== drawn) closeMenu();
  drawn = state.route;
  render(page(), app);
  openDialogs();
  settleList();
  showUnread();
});
onArrival(announceArrival);
onSystemTheme(changed);
listenToKeys();
// Whatever a person does may have changed something.
for (const type of ['click', 'input', 'change', 'keydown', 'close', 'resize']) addEventListener(type, changed, true);
addEventListener('keydown', ({ key }) => {
  if (key === 'Escape') closeMenu();
});
addEventListener('pagehide', carryOutAll);
addEventListener('pageshow', closeMenu);
// A click into the message is one outside, and is told nowhere else.
addEventListener('blur', () => {
  if (document.activeElement instanceof HTMLIFrameElement) closeMenu();
});
document.addEventListener('click', ({ target }) => {
  if (!(target instanceof Element && target.closest('details.menu'))) closeMenu();
});
setInterval(() => {
  if (state.live.kind === 'waiting' || state.silence) changed();
}, 1_000);
setInterval(changed, 20_000);

changed();
void start();
