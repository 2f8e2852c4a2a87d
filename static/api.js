// The HTTP API. What the server sends is read here and nowhere else.

import { read, write } from './settings.js';

/** @import {Cause, Detail, Mailbox, Page, Part, Server, Summary} from './types.js' */

/** An answer that is not a success, or none at all. */
export class Failure extends Error {
  /** @param {number} status 0 when there was no answer  @param {string} detail */
  constructor(status, detail) {
    super(detail || `HTTP ${status}`);
    this.status = status;
    this.detail = detail;
  }

  /** @returns {Cause} */
  get cause() {
    if (this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504) return 'network';
    if (this.status === 401) return 'unauthorized';
    if (this.status === 404 || this.status === 410) return 'missing';
    if (this.status === 409) return 'conflict';
    return this.status < 500 ? 'invalid' : 'failed';
  }
}

const TIMEOUT_MS = 20_000;
/** Emptying a large store is one call. */
const EMPTYING_MS = 600_000;

/** Tokens by mailbox, for servers that ask for one. */
export const tokens = {
  /** @returns {Record<string, string>} */
  all() {
    try {
      return JSON.parse(read('tokens') || '{}');
    } catch {
      return {};
    }
  },
  /** @param {string} address @param {string|null} token null forgets it */
  set(address, token) {
    const { [address]: _, ...rest } = this.all();
    write('tokens', JSON.stringify(token ? { ...rest, [address]: token } : rest));
  },
  /** @param {string} address @returns {string|undefined} */
  get(address) {
    return this.all()[address];
  },
};

/**
 * @param {string} method
 * @param {string} path below /v1
 * @param {{body?: unknown, token?: string, keepalive?: boolean, signal?: AbortSignal, patience?: number}} [options]
 * @returns {Promise<Response>}
 */
async function send(method, path, { body, token, keepalive, signal, patience = TIMEOUT_MS } = {}) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (token) headers.authorization = `Bearer ${token}`;
  const timeout = AbortSignal.timeout(patience);
  let response;
  try {
    response = await fetch(`v1/${path}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      keepalive,
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure(0, '');
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new Failure(response.status, problem.detail ?? problem.title ?? '');
}

/** @param {string} path @param {{token?: string, signal?: AbortSignal}} [options] */
const get = async (path, options) => (await send('GET', path, options)).json();

/** @param {string} address */
const mailboxPath = (address) => `mailboxes/${encodeURIComponent(address)}`;

/** @param {string} address @param {string} id */
const messagePath = (address, id) => `${mailboxPath(address)}/messages/${encodeURIComponent(id)}`;

/** @param {Record<string, string|number|null|undefined>} fields */
function query(fields) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) {
    if (value !== null && value !== undefined && value !== '') search.set(name, String(value));
  }
  const text = search.toString();
  return text && `?${text}`;
}

/** @template T @param {any} answer @returns {Page<T>} */
const page = (answer) => ({ items: answer.items, next: answer.next_cursor ?? null, cursor: answer.cursor ?? null });

/** @returns {Promise<Server>} */
export async function server() {
  const { version, smtp, access } = await get('server');
  return { version, access, smtp: smtp.map((/** @type {any} */ { host, port }) => ({ host, port })) };
}

/** Domains that accept mail, the default first; `*` stands for any. @returns {Promise<string[]>} */
export async function domains() {
  const { items } = await get('domains');
  return items
    .sort((/** @type {any} */ a, /** @type {any} */ b) => Number(b.is_default) - Number(a.is_default))
    .map((/** @type {any} */ item) => item.domain);
}

/** @param {string|null} after @returns {Promise<Page<Mailbox>>} */
export const mailboxes = async (after) => page(await get(`mailboxes${query({ limit: 200, page: after })}`));

/** @param {string} address @param {string} [token] @returns {Promise<Mailbox>} */
export const mailbox = (address, token = tokens.get(address)) => get(mailboxPath(address), { token });

/**
 * @param {{address?: string, local_part?: string, domain?: string, ttl?: string}} request
 * @returns {Promise<Mailbox & {token?: string}>}
 */
export const createMailbox = async (request) => (await send('POST', 'mailboxes', { body: request })).json();

/** @param {string} address @param {string} ttl counted from now @returns {Promise<Mailbox>} */
export const extendMailbox = async (address, ttl) =>
  (await send('PATCH', mailboxPath(address), { body: { ttl }, token: tokens.get(address) })).json();

/** @param {string} address */
export const deleteMailbox = (address) => send('DELETE', mailboxPath(address), { token: tokens.get(address) });

/** @param {string} address */
export const emptyMailbox = (address) =>
  send('DELETE', `${mailboxPath(address)}/messages`, { token: tokens.get(address), patience: EMPTYING_MS });

/** All mail of all mailboxes. @returns {Promise<number>} how many messages went */
export const emptyAll = async () => (await (await send('DELETE', 'messages', { patience: EMPTYING_MS })).json()).deleted;

/**
 * Newest first.
 * @param {{mailbox: string|null, q: string, after: string|null, limit: number, signal?: AbortSignal}} request
 * @returns {Promise<Page<Summary>>}
 */
export async function messages({ mailbox, q, after, limit, signal }) {
  const path = mailbox === null ? 'messages' : `${mailboxPath(mailbox)}/messages`;
  const token = mailbox === null ? undefined : tokens.get(mailbox);
  return page(await get(path + query({ limit, q, page: after }), { token, signal }));
}

/** @param {string} address @param {string} id @param {AbortSignal} [signal] @returns {Promise<Detail>} */
export async function message(address, id, signal) {
  const raw = await get(messagePath(address, id), { token: tokens.get(address), signal });
  const attachments = raw.attachments.filter((/** @type {any} */ { inline }) => !inline);
  return {
    summary: { ...raw, attachments: attachments.length },
    cc: raw.cc,
    attachments: attachments.map((/** @type {any} */ { n, name, media_type, size }) => ({ n, name, type: media_type, size })),
    envelope: raw.envelope,
    headers: raw.headers,
    text: raw.text,
    hasHtml: raw.html !== null || raw.html_too_large,
    hasRemote: raw.html_remote,
    parts: partTree(raw.parts, raw.attachments),
    partCount: raw.parts.length,
    codes: raw.codes,
    links: raw.links,
    isDamaged: raw.parse !== 'whole' || raw.headers_truncated || raw.text_truncated,
  };
}

/** The flat list of parts, a container before what it holds, as a tree. @param {any[]} flat @param {any[]} attachments @returns {Part[]} */
function partTree(flat, attachments) {
  /** @type {Part[]} */
  const roots = [];
  /** @type {Map<number, Part>} */
  const byIndex = new Map();
  for (const { index, parent, media_type, name, size, attachment } of flat) {
    const part = { n: attachment, type: media_type, name: attachments[attachment]?.name ?? name ?? '', size, children: [] };
    byIndex.set(index, part);
    (byIndex.get(parent)?.children ?? roots).push(part);
  }
  return roots;
}

/** @param {string} address @param {string} id @param {{is_read?: boolean, tags?: string[]}} change */
export const updateMessage = (address, id, change) =>
  send('PATCH', messagePath(address, id), { body: change, token: tokens.get(address) });

/** @param {string} address @param {string} id @param {boolean} leaving the page is going away */
export const deleteMessage = (address, id, leaving) =>
  send('DELETE', messagePath(address, id), { token: tokens.get(address), keepalive: leaving });

/** The message as it came. @param {string} address @param {string} id @param {AbortSignal} [signal] */
export const source = async (address, id, signal) =>
  (await send('GET', `${messagePath(address, id)}/raw`, { token: tokens.get(address), signal })).text();

/** @param {string} address @param {string} id @param {number} n */
export const part = (address, id, n) => send('GET', `${messagePath(address, id)}/attachments/${n}`, { token: tokens.get(address) });

/** Addresses for what a browser loads by itself and cannot give a header. */
export const urls = {
  /** @param {string} address @param {string} id */
  raw: (address, id) => `v1/${messagePath(address, id)}/raw${query({ download: 1, token: tokens.get(address) })}`,
  /** @param {string} address @param {string} id @param {boolean} remote fetch what is elsewhere */
  html: (address, id, remote) =>
    `v1/${messagePath(address, id)}/html${query({ remote: remote ? 1 : null, token: tokens.get(address) })}`,
  /** @param {string} address @param {string} id @param {number} n @param {boolean} [save] as a file, not to be shown */
  part: (address, id, n, save) =>
    `v1/${messagePath(address, id)}/attachments/${n}${query({ download: save ? 1 : null, token: tokens.get(address) })}`,
};
