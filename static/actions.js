// What the user does. Each is one function, whether a key, a button or a gesture asked for it.

import * as api from './api.js';
import { keyOf } from './messages.js';
import { t } from './i18n.js';
import {
  askToken, asFailure, changeMessage, changed, isTokenMode, live, loadMailboxes, openMessage, rows, say, setRead, show, state,
} from './store.js';
/** @import {Deletion, Summary, Tab} from './types.js' */

const UNDO_MS = 10_000;

/** @param {unknown} error */
function explain(error) {
  const failure = asFailure(error);
  say(t.failure(failure.cause, failure.detail));
}

// ---- moving ----

/** @param {string|null} mailbox null for all mail */
export const goTo = (mailbox) => show({ mailbox, message: null, tab: null, q: '' }, 'push');

/** @param {string} key */
export function open(key) {
  const row = state.list.get(key);
  if (!row) return;
  const message = { mailbox: row.mailbox, id: row.id };
  // Going from message to message is one step back, not twenty.
  show({ ...state.route, message, tab: state.route.message ? state.route.tab : null }, state.route.message ? 'replace' : 'push');
}

export const close = () => show({ ...state.route, message: null, tab: null }, 'push');

/** @param {1|-1} step */
export function move(step) {
  const list = rows();
  const at = list.findIndex((row) => keyOf(row) === state.current);
  const row = list[at < 0 ? 0 : Math.min(list.length - 1, Math.max(0, at + step))];
  if (!row) return;
  state.current = keyOf(row);
  if (state.route.message) open(state.current);
}

/** @param {Tab} tab */
export function openTab(tab) {
  if (state.route.message) show({ ...state.route, tab }, 'replace');
}

/** @param {string} q */
export function search(q) {
  const isNarrowing = state.route.q !== '' && q !== '';
  show({ ...state.route, q, message: null, tab: null }, isNarrowing ? 'replace' : 'push');
}

// ---- selecting ----

/** @type {string|null} where a selection with shift starts */
let anchor = null;

/** @param {string} key @param {boolean} [extend] everything from the last one to this one */
export function toggleSelected(key, extend = false) {
  const keys = rows().map(keyOf);
  const [from, to] = [anchor === null ? -1 : keys.indexOf(anchor), keys.indexOf(key)];
  if (extend && from >= 0 && to >= 0) {
    for (const each of keys.slice(Math.min(from, to), Math.max(from, to) + 1)) state.selected.add(each);
  } else if (!state.selected.delete(key)) {
    state.selected.add(key);
  }
  anchor = key;
  state.current = key;
}

export function selectAll() {
  state.selected = new Set(rows().map(keyOf));
}

export function clearSelection() {
  state.selected.clear();
}

/** What keys act on: the selection, else the message shown, else the current row. @returns {string[]} */
export function targets() {
  if (state.selected.size) return [...state.selected];
  const key = state.shown?.key ?? state.current;
  return key ? [key] : [];
}

/** Reads all targets, or unreads them when all are read. */
export function toggleRead() {
  const keys = targets();
  const isRead = keys.some((key) => !(state.list.get(key) ?? state.shown?.detail?.summary)?.is_read);
  void setRead(keys, isRead);
}

// ---- deleting ----

/** @param {string[]} keys */
export function remove(keys = targets()) {
  if (!keys.length) return;
  const next = neighbour(keys);
  const deletion = { keys: new Set(keys), until: Date.now() + UNDO_MS, timer: 0 };
  deletion.timer = setTimeout(() => void carryOut(deletion, false), UNDO_MS);
  state.deletions.push(deletion);
  for (const key of keys) state.selected.delete(key);
  state.current = next;
  if (state.shown && keys.includes(state.shown.key)) {
    if (next && keys.length === 1 && state.list.get(next)) open(next);
    else show({ ...state.route, message: null, tab: null }, 'replace');
  }
  changed();
}

/** The row to go on with when these are gone. @param {string[]} keys */
function neighbour(keys) {
  const list = rows();
  const gone = new Set(keys);
  const at = list.findIndex((row) => gone.has(keyOf(row)));
  const isLeft = (/** @type {Summary} */ row) => !gone.has(keyOf(row));
  const row = list.slice(Math.max(0, at)).find(isLeft) ?? list.slice(0, Math.max(0, at)).findLast(isLeft);
  return row ? keyOf(row) : null;
}

export function undo() {
  const deletion = state.deletions.pop();
  if (!deletion) return;
  clearTimeout(deletion.timer);
  const [first] = deletion.keys;
  state.current = first ?? state.current;
  changed();
}

/** @param {Deletion} deletion @param {boolean} leaving the page is going away */
async function carryOut(deletion, leaving) {
  clearTimeout(deletion.timer);
  const answers = await Promise.allSettled([...deletion.keys].map((key) => carryOutOne(key, leaving)));
  state.deletions = state.deletions.filter((each) => each !== deletion);
  const failed = answers.find((answer) => answer.status === 'rejected');
  if (failed) explain(failed.reason);
  changed();
}

/** @param {string} key @param {boolean} leaving */
async function carryOutOne(key, leaving) {
  const slash = key.lastIndexOf('/');
  const [mailbox, id] = [key.slice(0, slash), key.slice(slash + 1)];
  try {
    await api.deleteMessage(mailbox, id, leaving);
  } catch (error) {
    if (asFailure(error).cause !== 'missing') throw error;
  }
  state.list.apply({ type: 'message.deleted', mailbox, id, uid: 0 });
}

/** The page is closed or left: what waits for its ten seconds is done now. */
export function carryOutAll() {
  for (const deletion of state.deletions) void carryOut(deletion, true);
}

// ---- mailboxes ----

/** @param {{address?: string, local_part?: string, domain?: string, ttl?: string}} request */
export async function createMailbox(request) {
  try {
    const { token, ...mailbox } = await api.createMailbox(request);
    if (token) api.tokens.set(mailbox.address, token);
    state.mailboxes.set(mailbox.address, mailbox);
    if (isTokenMode()) live.follow(mailbox.address, null, token);
    goTo(mailbox.address);
    return true;
  } catch (error) {
    const { cause } = asFailure(error);
    const address = request.address ?? `${request.local_part}@${request.domain}`;
    // Someone made it before: with open mailboxes, having it is all that was wanted.
    if (cause === 'conflict' && !isTokenMode()) return goTo(address), true;
    if (cause === 'conflict') askToken(address);
    else explain(error);
    return false;
  }
}

/** @param {string} address @param {string} ttl */
export async function extend(address, ttl) {
  try {
    state.mailboxes.set(address, await api.extendMailbox(address, ttl));
  } catch (error) {
    explain(error);
  }
  changed();
}

/** @param {string} address */
export async function deleteMailbox(address) {
  try {
    await api.deleteMailbox(address);
    forgetMailbox(address);
    goTo(null);
  } catch (error) {
    explain(error);
  }
}

/** @param {string} address */
function forgetMailbox(address) {
  state.mailboxes.delete(address);
  api.tokens.set(address, null);
  if (isTokenMode()) live.unfollow(address);
}

/** @param {string} address */
export async function emptyMailbox(address) {
  try {
    await api.emptyMailbox(address);
    if (state.route.message?.mailbox === address) close();
  } catch (error) {
    explain(error);
  }
}

export async function emptyAll() {
  try {
    const deleted = await api.emptyAll();
    if (state.route.message) close();
    say(t.deletedCount(deleted));
  } catch (error) {
    explain(error);
  }
}

/** @param {string} key @param {string[]} tags */
export async function setTags(key, tags) {
  try {
    await changeMessage(key, { tags });
  } catch (error) {
    explain(error);
  }
}

/** @param {string} address @param {string} token */
export async function useToken(address, token) {
  state.tokenTry = { busy: true, isWrong: false };
  changed();
  try {
    const mailbox = await api.mailbox(address, token);
    api.tokens.set(mailbox.address, token);
    if (state.dialog?.kind === 'token') state.dialog = null;
    state.tokenTry = { busy: false, isWrong: false };
    live.follow(mailbox.address, null, token);
    void loadMailboxes();
    const isThere = state.route.mailbox === mailbox.address;
    show(isThere ? state.route : { mailbox: mailbox.address, message: null, tab: null, q: '' }, 'push', true);
    if (state.shown?.failure) openMessage();
  } catch (error) {
    const { cause } = asFailure(error);
    const isWrong = cause === 'missing' || cause === 'unauthorized';
    state.tokenTry = { busy: false, isWrong };
    if (!isWrong) explain(error);
  }
  changed();
}

/** @param {string} text */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // No clipboard on plain http from another machine: the old way still works there.
    const field = document.createElement('textarea');
    field.value = text;
    (document.querySelector('dialog[open]') ?? document.body).append(field);
    field.select();
    document.execCommand('copy');
    field.remove();
  }
}
