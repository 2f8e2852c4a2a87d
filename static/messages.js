// The rows of one list, newest first, kept equal to the server's: pages come in from HTTP, events from the socket,
// in any interleaving. Pure; the invariant is that after the last event the rows are a prefix of the server's list.

/** @import {MailEvent, Page, Summary} from './types.js' */

/** @param {{mailbox: string, id: string}} message */
export const keyOf = ({ mailbox, id }) => `${mailbox}/${id}`;

export class MessageList {
  /** @type {Summary[]} newest first */
  items = [];
  /** @type {Map<string, Summary>} */
  #byKey = new Map();
  /** Where the next page starts; null when there is none, undefined before the first page. @type {string|null|undefined} */
  next = undefined;
  /** Events that came while a page was on its way: the page may be older than they are. @type {MailEvent[]|null} */
  #meanwhile = null;
  /** The end of the last page, also when that message is gone since. @type {Summary|undefined} */
  #tail;
  /** Keys that were removed: when one arrives, its event is a repeat. @type {Set<string>} */
  #gone = new Set();
  /** Grows with every change. */
  version = 0;

  /** @param {string|null} mailbox null for all  @param {string} q */
  constructor(mailbox, q) {
    this.mailbox = mailbox;
    this.q = q;
  }

  get isLoaded() {
    return this.next !== undefined;
  }

  /** @param {string} key */
  get(key) {
    return this.#byKey.get(key);
  }

  /** To be called before a page is asked for. */
  beginPage() {
    this.#meanwhile ??= [];
  }

  /** The page that was asked for did not come. */
  abandonPage() {
    this.#meanwhile = null;
  }

  /**
   * Adds a page at the end, or, as the first of a list read again, in place of everything.
   * @param {Page<Summary>} page
   * @param {boolean} first
   */
  endPage(page, first) {
    if (first) {
      this.items = [];
      this.#byKey.clear();
    }
    for (const message of page.items) {
      if (this.#byKey.has(keyOf(message))) continue;
      this.#byKey.set(keyOf(message), message);
      this.items.push(message);
    }
    this.next = page.next;
    this.#tail = page.items.at(-1);
    this.version += 1;
    this.#catchUp();
  }

  #catchUp() {
    const events = this.#meanwhile ?? [];
    this.#meanwhile = null;
    for (const event of events) this.apply(event);
  }

  /**
   * Puts in what a search finds now and did not before. Rows that no longer match stay: reading an unread message
   * must not make it vanish.
   * @param {Summary[]} found
   */
  mergeFound(found) {
    for (const message of found) if (!this.#byKey.has(keyOf(message))) this.#insert(message, false);
    this.#catchUp();
  }

  /** @param {MailEvent} event @returns {boolean} whether a row came, changed or went */
  apply(event) {
    this.#meanwhile?.push(event);
    if (!this.isLoaded || (this.mailbox !== null && event.mailbox !== this.mailbox)) return false;
    switch (event.type) {
      case 'message.received':
        // Whether it matches a search only the server knows.
        return this.q === '' && !this.#byKey.has(keyOf(event.message)) && this.#insert(event.message, true);
      case 'message.updated':
        return this.#update(event.message);
      case 'message.deleted':
        return this.#byKey.has(keyOf(event)) && this.#remove((row) => keyOf(row) === keyOf(event));
      case 'messages.expired':
        return this.#remove((row) => row.mailbox === event.mailbox && row.uid <= event.through_uid);
      case 'mailbox.deleted':
        return this.#remove((row) => row.mailbox === event.mailbox);
    }
  }

  /** @param {Summary} message @param {boolean} isArrival it came as an event, and events come in the list's order */
  #insert(message, isArrival) {
    // Older than all that was loaded: it comes with its page.
    if (this.#tail && this.next !== null && isNewer(this.#tail, message)) return false;
    let at = 0;
    // All mail stands in the order in which it was stored, which the times of receipt only come near to.
    if (!isArrival || this.mailbox !== null || this.#gone.has(keyOf(message))) {
      for (let row = this.items[at]; row && isNewer(row, message); row = this.items[at]) at += 1;
    }
    this.items.splice(at, 0, message);
    this.#byKey.set(keyOf(message), message);
    this.version += 1;
    return true;
  }

  /** @param {Summary} message */
  #update(message) {
    const old = this.#byKey.get(keyOf(message));
    if (!old) return false;
    this.items[this.items.indexOf(old)] = message;
    this.#byKey.set(keyOf(message), message);
    this.version += 1;
    return true;
  }

  /** @param {(row: Summary) => boolean} goes */
  #remove(goes) {
    const stay = this.items.filter((row) => !goes(row) || !(this.#gone.add(keyOf(row)) && this.#byKey.delete(keyOf(row))));
    if (stay.length === this.items.length) return false;
    this.items = stay;
    this.version += 1;
    return true;
  }
}

/** @param {Summary} a @param {Summary} b */
function isNewer(a, b) {
  if (a.mailbox === b.mailbox) return a.uid > b.uid;
  return a.received_at === b.received_at ? a.id > b.id : a.received_at > b.received_at;
}
