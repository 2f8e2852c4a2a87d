// The keyboard: one table, from which both the handling and the list under `?` are made.

import { html } from './vendor/lit-html/lit-html.js';
import { clearSelection, close, goTo, move, open, openTab, remove, search, targets, toggleRead, toggleSelected, undo } from './actions.js';
import { t } from './i18n.js';
import { hasTab } from './message.js';
import { TABS } from './route.js';
import { openForm } from './addresses.js';
import { changed, say, state } from './store.js';
import { copyAndSay } from './widgets.js';

/** @typedef {keyof typeof t.keys} Action */

/** @type {Record<Action, () => void>} */
const actions = {
  move: () => move(1),
  moveUp: () => move(-1),
  open: () => state.current && open(state.current),
  back: () => (state.route.message ? close() : state.route.q ? search('') : undefined),
  select: () => state.current && toggleSelected(state.current),
  delete: () => remove(),
  undo,
  read: () => targets().length && toggleRead(),
  search: () => /** @type {HTMLInputElement|null} */ (document.querySelector('.search input'))?.select(),
  newAddress: openForm,
  copy: copyAddress,
  tabs: () => {},
  allMail: () => goTo(null),
  help: () => (state.dialog = { kind: 'keys' }),
};

/** In the order of the list. @type {[string[], Action][]} */
const table = [
  [['j'], 'move'], [['k'], 'moveUp'], [['Enter'], 'open'], [['u'], 'back'], [['x'], 'select'], [['#'], 'delete'], [['z'], 'undo'],
  [['r'], 'read'], [['/'], 'search'], [['n'], 'newAddress'], [['c'], 'copy'], [['1…5'], 'tabs'], [['g', 'a'], 'allMail'], [['?'], 'help'],
];

/** Second spellings, for those who come from elsewhere. @type {Record<string, Action>} */
const also = { ArrowDown: 'move', ArrowUp: 'moveUp', o: 'open', Delete: 'delete' };

/** @type {Record<string, Action>} */
const byKey = { ...also };
for (const [keys, action] of table) byKey[keys.join(' ')] = action;

function copyAddress() {
  const address = state.route.mailbox ?? state.shown?.detail?.summary.mailbox ?? (state.current ? state.list.get(state.current)?.mailbox : null);
  if (!address) return;
  void copyAndSay(address);
  say(t.addressCopied(address));
}

const SEQUENCE_MS = 1_200;
let prefix = '';
let prefixAt = 0;

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const target = /** @type {Element} */ (event.target);
  if (event.key === 'Escape') return onEscape(target);
  // One that was just closed hears of it later than the next key comes.
  if (document.querySelector('dialog[open]') || target.closest('input:not([type=checkbox]), textarea, select, [contenteditable]')) return;
  // Enter on a button or a link is the browser's.
  if (event.key === 'Enter' && target.closest('a, button, summary')) return;
  // Arrows move the list, unless something with its own scrolling has the focus.
  if (event.key.startsWith('Arrow') && target !== document.body && !target.closest('.list')) return;
  const tab = TABS[Number(event.key) - 1];
  if (tab && hasTab(tab)) {
    event.preventDefault();
    return openTab(tab);
  }
  const sequence = prefix && event.timeStamp - prefixAt < SEQUENCE_MS ? `${prefix} ${event.key}` : event.key;
  [prefix, prefixAt] = event.key === 'g' ? ['g', event.timeStamp] : ['', 0];
  const action = byKey[sequence] ?? byKey[event.key];
  if (!action) return;
  event.preventDefault();
  actions[action]();
}

/** Out of one thing at a time. @param {Element} target */
function onEscape(target) {
  if (document.querySelector('dialog[open]')) return;
  if (target instanceof HTMLElement && target.matches('input, select')) target.blur();
  else if (state.drawer) state.drawer = false;
  else if (state.selected.size) clearSelection();
  else actions.back();
  changed();
}

export const listenToKeys = () => addEventListener('keydown', onKey);

export const keyList = () => html`<dl class="key-list" tabindex="-1" autofocus>${table.map(
  ([keys, action]) => html`<div><dt>${keys.map((key) => html`<kbd>${key === 'Enter' ? '↵' : key}</kbd>`)}</dt><dd>${t.keys[action]}</dd></div>`,
)}</dl>`;
