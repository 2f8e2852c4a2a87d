// The WebSocket: one connection that is always being restored, and goes on where it was cut.
//
// A subscription remembers the cursor of the last event that was handed on, so a new connection asks for exactly
// what was missed. Back-off is 1 s doubling to 30 s with jitter; a network or a tab that comes back cuts it short.

/** @import {LiveState, MailEvent} from './types.js' */

const FIRST_DELAY_MS = 1_000;
const LONGEST_DELAY_MS = 30_000;
/** A timer this late means that the machine slept: the connection may be dead without having said so. */
const SLEPT_MS = 20_000;

export class Live {
  /** @type {Map<string, {since: string|null, token?: string}>} */
  #subscriptions = new Map();
  /** @type {WebSocket|null} */
  #socket = null;
  #failures = 0;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;
  /** @type {LiveState} */
  state = { kind: 'connecting' };

  /**
   * @param {object} hooks
   * @param {(event: MailEvent) => void} hooks.onEvent
   * @param {(mailbox: string) => void} hooks.onGap  events may be missing before this point: read the lists again
   * @param {(state: LiveState) => void} hooks.onState
   */
  constructor({ onEvent, onGap, onState }) {
    this.hooks = { onEvent, onGap, onState };
    addEventListener('online', () => this.connectNow());
    addEventListener('offline', () => this.#restart());
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden && this.state.kind !== 'live') this.connectNow();
    });
    this.#watchSleep();
  }

  /**
   * @param {string} mailbox or `*`
   * @param {string|null} since null: from now on, and `onGap` is called once that holds
   * @param {string} [token]
   */
  follow(mailbox, since, token) {
    this.#subscriptions.set(mailbox, { since, token });
    if (this.#socket?.readyState === WebSocket.OPEN) this.#subscribe(mailbox);
    else if (!this.#socket && this.state.kind === 'connecting') this.connectNow();
  }

  /** @param {string} mailbox */
  unfollow(mailbox) {
    if (!this.#subscriptions.delete(mailbox)) return;
    if (this.#socket?.readyState === WebSocket.OPEN) this.#send({ type: 'unsubscribe', mailbox });
  }

  /** @param {string} mailbox */
  follows(mailbox) {
    return this.#subscriptions.has(mailbox);
  }

  connectNow() {
    clearTimeout(this.#timer);
    if (this.#socket || this.#subscriptions.size === 0) return;
    this.#become({ kind: 'connecting' });
    const socket = new WebSocket(new URL('v1/ws', document.baseURI.replace(/^http/, 'ws')));
    this.#socket = socket;
    socket.onopen = () => {
      for (const mailbox of this.#subscriptions.keys()) this.#subscribe(mailbox);
    };
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      this.#waitAndConnect();
    };
  }

  /** Drops the connection, whatever it believes about itself, and makes a new one. */
  #restart() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    if (navigator.onLine) this.connectNow();
    else this.#waitAndConnect();
  }

  #waitAndConnect() {
    clearTimeout(this.#timer);
    const ceiling = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#failures);
    const delay = ceiling * (0.75 + Math.random() / 4);
    this.#failures += 1;
    this.#become(
      navigator.onLine ? { kind: 'waiting', until: Date.now() + delay, failures: this.#failures } : { kind: 'offline' },
    );
    // Also while "offline": browsers are wrong about it for loopback and for some networks.
    this.#timer = setTimeout(() => this.connectNow(), delay);
  }

  #watchSleep() {
    let last = Date.now();
    setInterval(() => {
      const now = Date.now();
      const slept = now - last > SLEPT_MS && !document.hidden;
      last = now;
      if (slept) this.#restart();
    }, SLEPT_MS / 4);
  }

  /** @param {string} mailbox */
  #subscribe(mailbox) {
    const subscription = this.#subscriptions.get(mailbox);
    this.#send({
      type: 'subscribe',
      mailbox,
      ...(subscription?.since ? { since: subscription.since } : {}),
      ...(subscription?.token ? { token: subscription.token } : {}),
    });
  }

  /** @param {object} frame */
  #send(frame) {
    this.#socket?.send(JSON.stringify(frame));
  }

  /** @param {any} frame */
  #take(frame) {
    if (frame.type === 'error') return this.#takeError(frame);
    const name = this.#subscriptions.has('*') ? '*' : frame.mailbox;
    const subscription = this.#subscriptions.get(name);
    if (!subscription) return;
    if (frame.type === 'subscribed') {
      this.#becomeLive();
      // With `since` the missed events follow with their own cursors: this one would skip them.
      if (subscription.since !== null) return;
      subscription.since = frame.cursor;
      this.hooks.onGap(name);
    } else if (frame.type === 'reset') {
      this.#becomeLive();
      subscription.since = frame.cursor ?? null;
      this.hooks.onGap(name);
    } else {
      this.hooks.onEvent(frame);
      subscription.since = frame.cursor;
    }
  }

  /** @param {{mailbox?: string, problem: {type: string, title?: string, status: number}}} frame */
  #takeError({ mailbox, problem }) {
    const subscription = mailbox === undefined ? undefined : this.#subscriptions.get(mailbox);
    if (problem.status === 503) return this.#socket?.close();
    // The connection itself is fine.
    this.#becomeLive();
    if (mailbox !== undefined && problem.status === 404) this.#subscriptions.delete(mailbox);
    if (mailbox !== undefined && subscription?.since && problem.type.endsWith(':bad-cursor')) this.follow(mailbox, null, subscription.token);
    else console.warn('mailroom:', mailbox ?? '', problem.title ?? problem.type);
    return undefined;
  }

  #becomeLive() {
    if (this.state.kind === 'live') return;
    this.#failures = 0;
    this.#become({ kind: 'live' });
  }

  /** @param {LiveState} state */
  #become(state) {
    this.state = state;
    this.hooks.onState(state);
  }
}
