// What the page knows, how it is read from the server, and how events change it. What the user does is in actions.js.

import * as api from './api.js';
import { Live } from './live.js';
import { MessageList, keyOf } from './messages.js';
import * as route from './route.js';
/** @import {Deletion, Detail, Dialog, LiveState, MailEvent, Mailbox, Route, Server, Shown, Silence, Summary} from './types.js' */

const FIRST_PAGE = 100;
const NEXT_PAGE = 500;
const MAILBOX_PAGES = 25;
const DETAILS_KEPT = 30;
/** Arrivals after which a page left open under a load test reads its list anew. */
const LIVE_ROWS_KEPT = 20_000;

export const state = {
  route: route.parse(location.hash),
  /** @type {Server|null} */
  server: null,
  /** @type {Silence|null} */
  silence: null,
  /** @type {string[]} */
  domains: [],
  /** @type {Map<string, Mailbox>} */
  mailboxes: new Map(),
  mailboxesLoaded: false,
  /** More mailboxes than the page reads. */
  mailboxesCut: false,
  list: new MessageList(null, ''),
  listBusy: false,
  /** @type {api.Failure|null} */
  listFailure: null,
  /** New rows above what is in sight. */
  unseenAbove: 0,
  /** @type {string|null} the row that keys act on */
  current: null,
  /** @type {Set<string>} */
  selected: new Set(),
  /** @type {Shown|null} */
  shown: null,
  /** @type {Deletion[]} deleted, and to be undone for a while */
  deletions: [],
  /** @type {LiveState} */
  live: { kind: 'connecting' },
  /** @type {Dialog|null} */
  dialog: null,
  /** How the last token that was typed in fares. */
  tokenTry: { busy: false, isWrong: false },
  /** One sentence for the user. */
  notice: '',
  /** On narrow windows: the mailboxes are open over the list. */
  drawer: false,
};

/** @type {() => void} */
let render = () => {};
let isScheduled = false;

/** @param {() => void} draw */
export function onChange(draw) {
  render = draw;
}

/** Draws in the next frame; many changes make one drawing. */
export function changed() {
  if (isScheduled) return;
  isScheduled = true;
  const draw = () => {
    isScheduled = false;
    render();
  };
  // A hidden tab gets no frames, but its title and favicon still count.
  if (document.hidden) setTimeout(draw, 200);
  else requestAnimationFrame(draw);
}

const NOTICE_MS = 6_000;
let noticeTimer = 0;

/** Tells the user one sentence, for a while. @param {string} sentence empty takes it back */
export function say(sentence) {
  state.notice = sentence;
  clearTimeout(noticeTimer);
  if (sentence) noticeTimer = setTimeout(() => say(''), NOTICE_MS);
  changed();
}

/** @type {(messages: Summary[]) => void} */
let announce = () => {};

/** @param {(messages: Summary[]) => void} hook called with messages that have just arrived */
export function onArrival(hook) {
  announce = hook;
}

// ---- reading ----

/** @type {Summary[]} */
let visibleRows = [];
let visibleOf = '';
let listNumber = 0;

/** Rows of the list without those whose deletion can still be undone. */
export function rows() {
  const stamp = `${listNumber} ${state.list.version} ${state.deletions.map(({ until, keys }) => `${until}-${keys.size}`)}`;
  if (stamp !== visibleOf) {
    visibleOf = stamp;
    const hidden = hiddenKeys();
    visibleRows = hidden.size ? state.list.items.filter((row) => !hidden.has(keyOf(row))) : state.list.items;
  }
  return visibleRows;
}

function hiddenKeys() {
  /** @type {Set<string>} */
  const hidden = new Set();
  for (const { keys } of state.deletions) for (const key of keys) hidden.add(key);
  return hidden;
}

/** Rows there are in all, as far as is known: loaded ones and those the mailboxes count. */
export function totalRows() {
  const loaded = rows().length;
  if (!state.list.isLoaded || state.list.next === null) return loaded;
  if (state.list.q) return loaded + 1;
  const { mailbox } = state.list;
  return Math.max(loaded + 1, mailbox === null ? counts().messages : (state.mailboxes.get(mailbox)?.messages ?? 0));
}

/** Over all mailboxes. */
export function counts() {
  let messages = 0;
  let unread = 0;
  for (const mailbox of state.mailboxes.values()) {
    messages += mailbox.messages;
    unread += mailbox.unread;
  }
  return { messages, unread };
}

export const isTokenMode = () => state.server?.access === 'token';

/** Whether this browser may read the mailbox, as far as it knows. @param {string|null} mailbox null is all mail */
export const canRead = (mailbox) => !isTokenMode() || (mailbox !== null && api.tokens.get(mailbox) !== undefined);

/** @returns {Summary|null} */
export function shownSummary() {
  if (!state.shown) return null;
  return state.list.get(state.shown.key) ?? state.shown.detail?.summary ?? null;
}

// ---- start ----

export async function start() {
  addEventListener('popstate', () => show(route.parse(location.hash), 'none'));
  await begin();
}

const ASK_AGAIN_MS = 3_000;
let askTimer = 0;

/** Asks the server what it is, until it says so: everything else depends on whether mailboxes are open. */
export async function begin() {
  clearTimeout(askTimer);
  try {
    [state.server, state.domains] = await Promise.all([api.server(), api.domains()]);
  } catch (error) {
    state.silence = { failure: asFailure(error), until: Date.now() + ASK_AGAIN_MS };
    askTimer = setTimeout(begin, ASK_AGAIN_MS);
    return changed();
  }
  state.silence = null;
  if (isTokenMode()) return startWithTokens();
  openMessage();
  return void (await Promise.all([loadMailboxes(), openList()]));
}

async function startWithTokens() {
  await loadMailboxes();
  const addresses = Object.keys(api.tokens.all());
  for (const address of addresses) live.follow(address, null, api.tokens.get(address));
  const mailbox = state.route.mailbox ?? state.route.message?.mailbox ?? addresses[0] ?? null;
  show({ ...state.route, mailbox }, 'replace', true);
}

/** @param {string} mailbox */
export function askToken(mailbox) {
  state.tokenTry = { busy: false, isWrong: false };
  state.dialog = { kind: 'token', mailbox };
  changed();
}

// ---- routes ----

/**
 * Shows a place of the page.
 * @param {Route} next
 * @param {'push'|'replace'|'none'} history
 * @param {boolean} [anew] reads the list again even when it is the same
 */
export function show(next, history, anew = false) {
  const before = state.route;
  const url = route.format(next);
  if (history !== 'none' && url !== location.hash) globalThis.history[`${history}State`](null, '', url);
  state.route = next;
  state.drawer = false;
  if (!state.server) return changed();
  if (anew || before.mailbox !== next.mailbox || before.q !== next.q) void openList();
  openMessage();
  changed();
}

/** @param {Partial<Route>} change */
export const linkTo = (change) => route.format({ ...state.route, tab: null, ...change });

// ---- the list ----

/** @type {AbortController|null} */
let listRequest = null;

async function openList() {
  const { mailbox, q } = state.route;
  listRequest?.abort();
  listNumber += 1;
  state.list = new MessageList(mailbox, q);
  state.selected.clear();
  state.current = null;
  state.unseenAbove = 0;
  if (canRead(mailbox)) return loadPage(true);
  // Instead of the list stands what opens a mailbox.
  state.listBusy = false;
  state.listFailure = null;
  state.list.endPage({ items: [], next: null, cursor: null }, true);
  if (mailbox !== null) askToken(mailbox);
  return changed();
}

export async function reloadList() {
  listRequest?.abort();
  state.unseenAbove = 0;
  await loadPage(true);
}

/** Reads the next page, unless one is on its way or there is none. */
export async function loadMore() {
  if (!state.listBusy && !state.listFailure && state.list.next) await loadPage(false);
}

/** @param {boolean} first */
async function loadPage(first) {
  const { list } = state;
  const request = (listRequest = new AbortController());
  state.listBusy = true;
  state.listFailure = null;
  list.beginPage();
  changed();
  try {
    const page = await api.messages({
      mailbox: list.mailbox,
      q: list.q,
      after: first ? null : (list.next ?? null),
      limit: first ? FIRST_PAGE : NEXT_PAGE,
      signal: request.signal,
    });
    if (list !== state.list || request !== listRequest) return;
    list.endPage(page, first);
    if (first) rowsSinceLoad = 0;
    followAll(list.mailbox === null ? page.cursor : null);
  } catch (error) {
    if (list !== state.list || request !== listRequest) return;
    list.abandonPage();
    state.listFailure = asFailure(error);
    if (state.listFailure.cause === 'unauthorized') askToken(list.mailbox ?? '');
    followAll(null);
  }
  state.listBusy = false;
  changed();
}

/** @param {unknown} error @returns {api.Failure} */
export function asFailure(error) {
  if (error instanceof api.Failure) return error;
  console.error(error);
  return new api.Failure(500, '');
}

// ---- mailboxes ----

/** @type {Set<string>} mailboxes whose counts are to be read again */
const stale = new Set();
let staleTimer = 0;
/** Whether the mailboxes are being read, or have to be once more after that. @type {'no'|'yes'|'again'} */
let mailboxesBusy = 'no';

export async function loadMailboxes() {
  mailboxesBusy = mailboxesBusy === 'no' ? 'yes' : 'again';
  if (mailboxesBusy === 'again') return;
  try {
    state.mailboxes = isTokenMode() ? await ownMailboxes() : await listedMailboxes();
    state.mailboxesLoaded = true;
  } catch {
    // The list beside it says that the server does not answer; it is read again when the socket is back.
  }
  const again = /** @type {string} */ (mailboxesBusy) === 'again';
  mailboxesBusy = 'no';
  changed();
  if (again) await loadMailboxes();
}

async function listedMailboxes() {
  /** @type {Map<string, Mailbox>} */
  const found = new Map();
  /** @type {string|null} */
  let after = null;
  let pages = 0;
  do {
    const page = await api.mailboxes(after);
    for (const mailbox of page.items) found.set(mailbox.address, mailbox);
    after = page.next;
    pages += 1;
  } while (after && pages < MAILBOX_PAGES);
  state.mailboxesCut = after !== null;
  return found;
}

/** Those that the kept tokens open. What a token does not open any more is forgotten. */
async function ownMailboxes() {
  const addresses = Object.keys(api.tokens.all());
  const answers = await Promise.allSettled(addresses.map((address) => api.mailbox(address)));
  answers.forEach((answer, i) => {
    const isGone = answer.status === 'rejected' && asFailure(answer.reason).cause === 'missing';
    if (isGone) api.tokens.set(addresses[i] ?? '', null);
  });
  return new Map(
    answers.flatMap((answer) => (answer.status === 'fulfilled' ? [[answer.value.address, answer.value]] : [])),
  );
}

/** Counts are read again after events, not guessed. @param {string} address */
function markStale(address) {
  stale.add(address);
  staleTimer ||= setTimeout(refreshStale, stale.size > 1 ? 600 : 120);
}

async function refreshStale() {
  const addresses = [...stale];
  stale.clear();
  const isFew = addresses.length <= 4;
  await (isFew ? Promise.allSettled(addresses.map(refreshMailbox)) : loadMailboxes());
  staleTimer = 0;
  if (stale.size) staleTimer = setTimeout(refreshStale, isFew ? 600 : 2_000);
  changed();
}

/** @param {string} address */
async function refreshMailbox(address) {
  try {
    const fresh = await api.mailbox(address);
    if (fresh.created_at) state.mailboxes.set(address, fresh);
    else state.mailboxes.delete(address);
  } catch (error) {
    if (error instanceof api.Failure && error.cause === 'missing') state.mailboxes.delete(address);
  }
}

// ---- the message ----

/** @type {Map<string, Detail>} least recently shown first */
const details = new Map();
/** @type {AbortController|null} */
let detailRequest = null;

/** Shows the route's message. */
export function openMessage() {
  const wanted = state.route.message;
  const key = wanted && keyOf(wanted);
  if (key === (state.shown?.key ?? null) && !state.shown?.failure) return;
  detailRequest?.abort();
  if (!wanted || !key) {
    state.shown = null;
    return;
  }
  state.current = key;
  const kept = details.get(key);
  state.shown = { key, detail: kept ?? null, failure: null };
  if (kept) markRead(key);
  else void loadDetail(wanted.mailbox, wanted.id, state.shown);
}

/** @param {string} mailbox @param {string} id @param {Shown} shown */
async function loadDetail(mailbox, id, shown) {
  const request = (detailRequest = new AbortController());
  try {
    shown.detail = await api.message(mailbox, id, request.signal);
    details.set(shown.key, shown.detail);
    for (const oldest of details.keys()) if (details.size > DETAILS_KEPT) details.delete(oldest);
    if (state.shown === shown) markRead(shown.key);
  } catch (error) {
    if (request.signal.aborted) return;
    shown.failure = asFailure(error);
    if (shown.failure.cause === 'unauthorized') askToken(mailbox);
  }
  changed();
}

/** Opening a message reads it; the API itself never does that. @param {string} key */
function markRead(key) {
  const summary = shownSummary();
  if (summary && !summary.is_read) void setRead([key], true);
}

/** One after the other: read, then unread, must not overtake each other on the way. @type {Promise<unknown>} */
let updates = Promise.resolve();

/** @param {string[]} keys @param {boolean} isRead */
export async function setRead(keys, isRead) {
  const changes = keys.flatMap((key) => {
    const summary = state.list.get(key) ?? details.get(key)?.summary;
    return summary && summary.is_read !== isRead ? [summary] : [];
  });
  for (const summary of changes) replaceSummary({ ...summary, is_read: isRead });
  changed();
  const answers = updates.then(() =>
    Promise.allSettled(changes.map(({ mailbox, id }) => api.updateMessage(mailbox, id, { is_read: isRead }))),
  );
  updates = answers;
  (await answers).forEach((answer, i) => {
    const summary = changes[i];
    if (answer.status === 'rejected' && summary) replaceSummary(summary);
  });
  changed();
}

/** Changes a message here and on the server, and takes it back where the server refuses. @param {string} key @param {Partial<Summary>} change */
export async function changeMessage(key, change) {
  const summary = state.list.get(key) ?? details.get(key)?.summary;
  if (!summary) return;
  replaceSummary({ ...summary, ...change });
  changed();
  try {
    await api.updateMessage(summary.mailbox, summary.id, change);
  } catch (error) {
    replaceSummary(summary);
    changed();
    throw error;
  }
}

/** @param {Summary} message */
function replaceSummary(message) {
  const before = state.list.get(keyOf(message)) ?? details.get(keyOf(message))?.summary;
  const mailbox = state.mailboxes.get(message.mailbox);
  if (before && mailbox && before.is_read !== message.is_read) {
    state.mailboxes.set(message.mailbox, { ...mailbox, unread: Math.max(0, mailbox.unread + (message.is_read ? -1 : 1)) });
  }
  state.list.apply({ type: 'message.updated', mailbox: message.mailbox, message });
  const detail = details.get(keyOf(message));
  if (detail) detail.summary = message;
}

/** Forgets a message that is gone. @param {(row: {mailbox: string, id: string, uid: number}) => boolean} goes */
function forget(goes) {
  for (const [key, { summary }] of details) if (goes(summary)) details.delete(key);
  const shown = shownSummary();
  if (shown && goes(shown)) {
    state.shown = null;
    show({ ...state.route, message: null, tab: null }, 'replace');
  }
  for (const key of state.selected) if (!state.list.get(key)) state.selected.delete(key);
  if (state.current && !state.list.get(state.current)) state.current = null;
}

// ---- events ----

export const live = new Live({
  onEvent: applyEvent,
  onGap: () => {
    void reloadList();
    void loadMailboxes();
    details.clear();
    if (state.shown?.detail && state.route.message) void loadDetail(state.route.message.mailbox, state.route.message.id, state.shown);
  },
  onState: (next) => {
    state.live = next;
    if (next.kind === 'live') retryFailed();
    changed();
  },
});

function retryFailed() {
  if (state.listFailure) void loadPage(!state.list.isLoaded);
  if (!state.mailboxesLoaded) void loadMailboxes();
  if (state.shown?.failure) openMessage();
}

/** Keys that have arrived lately: delivery is at least once, a sound is not. @type {Set<string>} */
const arrived = new Set();
const ARRIVED_KEPT = 5_000;
const SEARCH_AGAIN_MS = 700;
let rowsSinceLoad = 0;
let searchTimer = 0;

/** @param {string|null} cursor of the list of all mail */
function followAll(cursor) {
  if (!isTokenMode() && !live.follows('*')) live.follow('*', cursor);
}

/** @param {MailEvent} event */
export function applyEvent(event) {
  const isNewRow = state.list.apply(event);
  markStale(event.mailbox);
  if (event.type === 'message.received') noteArrival(event.message, isNewRow);
  else if (event.type === 'message.updated') replaceSummary(event.message);
  else if (event.type === 'message.deleted') forget((row) => row.mailbox === event.mailbox && row.id === event.id);
  else if (event.type === 'messages.expired') forget((row) => row.mailbox === event.mailbox && row.uid <= event.through_uid);
  else forget((row) => row.mailbox === event.mailbox);
  changed();
}

/** @param {Summary} message @param {boolean} isNewRow */
function noteArrival(message, isNewRow) {
  const key = keyOf(message);
  if (arrived.has(key)) return;
  arrived.add(key);
  for (const oldest of arrived) if (arrived.size > ARRIVED_KEPT) arrived.delete(oldest);
  announce([message]);
  if (isNewRow) {
    rowsSinceLoad += 1;
    state.unseenAbove += 1;
    if (rowsSinceLoad > LIVE_ROWS_KEPT && !state.listBusy) void reloadList();
  } else if (state.list.q && !searchTimer) {
    searchTimer = setTimeout(searchAgain, SEARCH_AGAIN_MS);
  }
}

/** New mail may match the search: ask, once for all that came in the meantime. */
async function searchAgain() {
  searchTimer = 0;
  const { list } = state;
  if (!list.q || !list.isLoaded) return;
  if (state.listBusy) return void (searchTimer = setTimeout(searchAgain, SEARCH_AGAIN_MS));
  state.listBusy = true;
  list.beginPage();
  try {
    list.mergeFound((await api.messages({ mailbox: list.mailbox, q: list.q, after: null, limit: FIRST_PAGE })).items);
  } catch {
    // The next arrival asks again.
    list.abandonPage();
  }
  if (list === state.list) state.listBusy = false;
  changed();
}
