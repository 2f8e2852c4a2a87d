// Mailroom's HTTP API and WebSocket as the page sees them, kept in memory, with faults on request. It sanitises
// nothing, so that the tests of hostile mail meet the worst case: only frame and policy stand in the way.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { splitParty, write } from '../mail.mjs';
import { Socket } from './socket.mjs';

/**
 * @typedef {import('../mail.mjs').Mail} Mail
 * @typedef {{mail: Mail, summary: any, written: ReturnType<typeof write>|null}} Stored
 * @typedef {{address: string, created_at: string, expires_at: string|null, token: string, messages: Stored[], nextUid: number}} Box
 * @typedef {{stamp: number, mailbox: string, frame: Record<string, unknown>}} Logged
 * @typedef {{socket: Socket, mailboxes: Set<string>}} Client
 * @typedef {{status: number, body?: unknown, type?: string, headers?: Record<string, string>}} Answer
 */

const STATIC = fileURLToPath(new URL('../../../static', import.meta.url));
const PAGE_POLICY =
  "default-src 'self'; img-src 'self' data: blob:; connect-src 'self'; frame-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const FRAME_POLICY = (/** @type {boolean} */ remote) =>
  `default-src 'none'; img-src 'self' data:${remote ? ' http: https:' : ''}; style-src 'unsafe-inline'; sandbox allow-popups allow-popups-to-escape-sandbox`;
/** @type {Record<string, string>} */
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.md': 'text/plain' };
const DAY_MS = 86_400_000;

export class Mock {
  /** @type {Map<string, Box>} */
  boxes = new Map();
  /** @type {Logged[]} */
  log = [];
  stamp = 0;
  lineage = 1;
  /** @type {'open'|'token'} */
  access = 'open';
  domains = ['mailroom.test', '*'];
  /** Not the port that people expect, so that a page that guesses is found out. 0: SMTP does not listen. */
  smtpPort = 10_025;
  /** Every API request is answered with this status, if any. */
  failWith = 0;
  /** Only requests for these paths. */
  failOn = /^/;
  delayMs = 0;
  /** @type {string[]} method and path of every request */
  requests = [];
  /** @type {Set<Client>} */
  #clients = new Set();
  /** @type {import('node:http').Server|null} */
  #server = null;
  #sorted = { name: '', found: /** @type {Stored[]} */ ([]), places: /** @type {Map<string, number>} */ (new Map()) };
  #ids = 0;
  port = 0;

  /** @param {number} [port] 0: a free one, the same again after a stop */
  async start(port = this.port) {
    const server = createServer((request, response) => void this.#serve(request, response));
    server.on('upgrade', (request, stream) => this.#upgrade(request, stream));
    await new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, '127.0.0.1', () => resolve(undefined));
    });
    this.#server = server;
    this.port = /** @type {import('node:net').AddressInfo} */ (server.address()).port;
    return this;
  }

  get url() {
    return `http://127.0.0.1:${this.port}/`;
  }

  /** As a server that is killed: connections are cut, nothing is said. */
  async stop() {
    const server = this.#server;
    this.#server = null;
    if (!server) return;
    for (const { socket } of this.#clients) socket.stream.destroy();
    this.#clients.clear();
    await new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
  }

  /** Cuts the sockets and leaves the rest up. */
  dropSockets() {
    for (const { socket } of this.#clients) socket.close(1012);
    this.#clients.clear();
  }

  /** As after a restored backup: cursors from before cannot be continued. */
  startNewLineage() {
    this.lineage += 1;
    this.log = [];
  }

  // ---- back door ----

  /** @param {string} address @param {string|null} [expires] @returns {Box} */
  box(address, expires = new Date(Date.now() + 7 * DAY_MS).toISOString()) {
    let box = this.boxes.get(address);
    if (!box) {
      box = { address, created_at: new Date().toISOString(), expires_at: expires, token: `token-${address}`, messages: [], nextUid: 1 };
      this.boxes.set(address, box);
    }
    return box;
  }

  /** @param {Mail} mail @param {Date} [at] */
  deliver(mail, at = new Date()) {
    const stored = this.#store(mail, at);
    this.#announce(mail.to, { type: 'message.received', message: stored.summary });
    return stored.summary;
  }

  /** @param {Mail} mail @param {Date} at @returns {Stored} */
  #store(mail, at) {
    const box = this.box(mail.to);
    const id = `0199${String((this.#ids += 1)).padStart(8, '0')}-7000-8000-${String(this.#ids).padStart(12, '0')}`;
    const text = mail.text ?? (mail.html ?? '').replace(/<(style|script)[\s\S]*?<\/\1>/gi, ' ').replace(/<[^>]*>/g, ' ');
    const summary = {
      id,
      uid: box.nextUid++,
      mailbox: mail.to,
      cursor: '',
      from: splitParty(mail.from ?? 'Sender <sender@example.org>'),
      to: [splitParty(mail.to)],
      subject: mail.subject ?? '',
      preview: text.replace(/\s+/g, ' ').trim().slice(0, 200),
      date: at.toISOString(),
      received_at: at.toISOString(),
      expires_at: new Date(at.getTime() + 7 * DAY_MS).toISOString(),
      size: 900 + text.length + (mail.html?.length ?? 0) + (mail.attachments ?? []).reduce((sum, { content }) => sum + (content.length * 4) / 3, 0) | 0,
      attachments: mail.attachments?.length ?? 0,
      is_read: mail.isRead ?? false,
      tags: mail.tags ?? [],
      codes: codesIn(`${mail.subject ?? ''} ${text.slice(0, 200)}`),
    };
    const stored = { mail, summary, written: null };
    box.messages.push(stored);
    return stored;
  }

  /** Many at once, without events. @param {string} address @param {number} count */
  fill(address, count) {
    const now = Date.now();
    for (let i = 0; i < count; i += 1) {
      this.#store(
        { to: address, from: `Load ${i % 97} <load${i % 97}@example.org>`, subject: `Message number ${i + 1}`, text: `The body of message ${i + 1}.`, isRead: i % 3 !== 0 },
        new Date(now - (count - i) * 1_000),
      );
    }
  }

  /** @param {string} address @param {string} id */
  delete(address, id) {
    const box = this.boxes.get(address);
    const at = box?.messages.findIndex(({ summary }) => summary.id === id) ?? -1;
    if (!box || at < 0) return false;
    const [gone] = box.messages.splice(at, 1);
    this.#announce(address, { type: 'message.deleted', id, uid: gone?.summary.uid });
    return true;
  }

  /** @param {string} address @param {number} throughUid */
  expire(address, throughUid) {
    const box = this.box(address);
    box.messages = box.messages.filter(({ summary }) => summary.uid > throughUid);
    this.#announce(address, { type: 'messages.expired', through_uid: throughUid });
  }

  /** @param {string} address @param {Record<string, unknown>} frame */
  #announce(address, frame) {
    const logged = { stamp: (this.stamp += 1), mailbox: address, frame };
    this.log.push(logged);
    for (const { socket, mailboxes } of this.#clients) {
      if (mailboxes.has('*') || mailboxes.has(address)) socket.send(this.#wire(logged));
    }
  }

  /** @param {Logged} logged */
  #wire({ stamp, mailbox, frame }) {
    return { mailbox, cursor: `s${this.lineage}-${stamp}`, ...frame };
  }

  get #cursor() {
    return `s${this.lineage}-${this.stamp}`;
  }

  // ---- WebSocket ----

  /** @param {import('node:http').IncomingMessage} request @param {import('node:stream').Duplex} stream */
  #upgrade(request, stream) {
    if (request.url !== '/v1/ws') return stream.destroy();
    const client = { socket: new Socket(request, stream), mailboxes: new Set() };
    this.#clients.add(client);
    stream.on('close', () => this.#clients.delete(client));
    client.socket.onText = (text) => this.#command(client, JSON.parse(text));
    return undefined;
  }

  /** @param {Client} client @param {any} command */
  #command({ socket, mailboxes }, { type, mailbox, since, token }) {
    if (type === 'unsubscribe') return void mailboxes.delete(mailbox);
    if (this.access === 'token' && this.boxes.get(mailbox)?.token !== token) {
      return socket.send({ type: 'error', mailbox, problem: { type: 'urn:mailroom:problem:not-found', title: 'Not found', status: 404 } });
    }
    mailboxes.add(mailbox);
    const [, lineage, stamp] = /^s(\d+)-(\d+)$/.exec(since ?? '') ?? [];
    if (since && Number(lineage) !== this.lineage) {
      return socket.send({ type: 'reset', mailbox, cursor: this.#cursor });
    }
    socket.send({ type: 'subscribed', mailbox, cursor: this.#cursor });
    if (!since) return undefined;
    for (const logged of this.log) {
      if (logged.stamp > Number(stamp) && (mailbox === '*' || mailbox === logged.mailbox)) socket.send(this.#wire(logged));
    }
    return undefined;
  }

  // ---- HTTP ----

  /** @param {import('node:http').IncomingMessage} request @param {import('node:http').ServerResponse} response */
  async #serve(request, response) {
    const url = new URL(request.url ?? '/', this.url);
    this.requests.push(`${request.method} ${url.pathname}${url.search}`);
    let body = '';
    for await (const chunk of request) body += chunk;
    if (this.delayMs && url.pathname.startsWith('/v1/')) await new Promise((resolve) => setTimeout(resolve, this.delayMs));
    const token = request.headers.authorization?.replace('Bearer ', '') ?? url.searchParams.get('token') ?? '';
    const answer = url.pathname.startsWith('/v1/')
      ? this.#api(request.method ?? 'GET', url, token, body ? JSON.parse(body) : null)
      : await this.#file(url.pathname);
    const isRaw = Buffer.isBuffer(answer.body) || typeof answer.body === 'string';
    response.writeHead(answer.status, {
      'content-type': answer.type ?? (answer.status >= 400 ? 'application/problem+json' : 'application/json'),
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cache-control': 'no-cache',
      ...answer.headers,
    });
    response.end(answer.body === undefined ? undefined : isRaw ? answer.body : JSON.stringify(answer.body));
  }

  /** @param {string} path @returns {Promise<Answer>} */
  async #file(path) {
    const name = normalize(path === '/' ? '/index.html' : path);
    try {
      const body = await readFile(join(STATIC, name));
      const type = TYPES[extname(name)] ?? 'application/octet-stream';
      return { status: 200, body, type: `${type}; charset=utf-8`, headers: { 'content-security-policy': PAGE_POLICY } };
    } catch {
      return problem(404, 'not-found', 'There is nothing here.');
    }
  }

  /** @param {string} method @param {URL} url @param {string} token @param {any} body @returns {Answer} */
  #api(method, url, token, body) {
    if (this.failWith && this.failOn.test(url.pathname)) return problem(this.failWith, 'test', 'The test wants this to fail.');
    const path = url.pathname.split('/').slice(2).map(decodeURIComponent);
    const [noun, address = '', sub, id = '', view, n] = path;
    if (noun === 'server') {
      const smtp = this.smtpPort ? [{ host: '127.0.0.1', port: this.smtpPort }] : [];
      return ok({ name: 'mailroom', version: '0.1.0', access: this.access, smtp, default_domain: this.domains[0], index_lag: 0, receiving: true });
    }
    if (noun === 'domains') return ok({ items: this.domains.map((domain, i) => ({ domain, is_default: i === 0 })) });
    if (noun === 'mailboxes' && !address && method === 'POST') return this.#make(body);
    if (this.access === 'token') {
      if (!token) return problem(401, 'token-needed', 'A token is needed.');
      if (!address || this.boxes.get(address)?.token !== token) return problem(404, 'no-such-mailbox', 'There is no such mailbox.');
    }
    if (noun === 'messages' && method === 'DELETE') {
      const full = [...this.boxes.values()].filter(({ messages }) => messages.length);
      const deleted = full.reduce((sum, { messages }) => sum + messages.length, 0);
      for (const box of full) this.expire(box.address, box.nextUid - 1);
      return ok({ deleted });
    }
    if (noun === 'messages') return this.#list([...this.boxes.values()].flatMap((box) => box.messages), url);
    if (noun !== 'mailboxes') return problem(404, 'not-found', 'There is nothing here.');
    if (!address) return ok({ items: [...this.boxes.values()].map(boxView), next_cursor: null, cursor: this.#cursor });
    if (sub === 'messages' && !id) {
      if (method !== 'DELETE') return this.#list(this.boxes.get(address)?.messages ?? [], url);
      const deleted = this.boxes.get(address)?.messages.length ?? 0;
      if (deleted) this.expire(address, this.box(address).nextUid - 1);
      return ok({ deleted });
    }
    if (sub === 'messages') return this.#message(method, address, id, view, n, url, body);
    return this.#mailbox(method, address, body);
  }

  /** @param {any} body @returns {Answer} */
  #make({ address, local_part, domain, ttl }) {
    const made = address ?? `${local_part}@${domain}`;
    if (this.boxes.has(made)) return problem(409, 'mailbox-exists', `${made} exists already.`);
    if (!/^[^\s@]+@[^\s@]+$/.test(made)) return problem(400, 'bad-address', `${made} is not an address.`);
    const box = this.box(made, ttl ? new Date(Date.now() + hours(ttl)).toISOString() : null);
    return { status: 201, body: { ...boxView(box), token: box.token } };
  }

  /** @param {string} method @param {string} address @param {any} body @returns {Answer} */
  #mailbox(method, address, body) {
    const box = this.boxes.get(address);
    if (!box) return method === 'GET' && this.access === 'open' ? ok(emptyView(address)) : problem(404, 'no-such-mailbox', 'There is no such mailbox.');
    if (method === 'DELETE') {
      this.boxes.delete(address);
      this.#announce(address, { type: 'mailbox.deleted' });
      return { status: 204 };
    }
    if (method === 'PATCH') box.expires_at = new Date(Date.now() + hours(body.ttl)).toISOString();
    return ok(boxView(box));
  }

  /** Newest first; kept until something changes, because a test pages through 100,000. @param {string} path @param {Stored[]} messages @param {string} q */
  #found(path, messages, q) {
    const name = `${path} ${messages.length} ${this.stamp} ${q}`;
    if (this.#sorted.name !== name) {
      const found = messages.filter((stored) => matches(stored, q)).sort((a, b) => (isOlder(a.summary, b.summary) ? 1 : -1));
      const places = new Map(found.map(({ summary }, i) => [`${summary.mailbox} ${summary.id}`, i]));
      this.#sorted = { name, found, places };
    }
    return this.#sorted;
  }

  /** @param {Stored[]} messages @param {URL} url @returns {Answer} */
  #list(messages, url) {
    const q = url.searchParams.get('q') ?? '';
    const [, unknown = ''] = /(?:^|\s)-?(?!(?:from|to|subject|has|is|before|after|larger|smaller|tag):)([a-z]+):\S/i.exec(q) ?? [];
    if (unknown) return problem(400, 'bad-query', `no field "${unknown}"; there are from:, to:, subject:, has:, is:, before:, after:, larger:, smaller:, tag: (put it in quotes to search for it) (at character 1)`);
    const limit = Number(url.searchParams.get('limit') ?? 50);
    if (limit > 500) return problem(400, 'bad-parameter', 'limit must be 1 to 500');
    const after = url.searchParams.get('page');
    const { found, places } = this.#found(url.pathname, messages, q);
    const from = after ? (places.get(after) ?? -1) + 1 : 0;
    const items = found.slice(from, from + limit).map(({ summary }) => summary);
    const last = items.at(-1);
    const next = last && from + limit < found.length ? `${last.mailbox} ${last.id}` : null;
    return ok({ items, next_cursor: next, cursor: this.#cursor });
  }

  /**
   * @param {string} method @param {string} address @param {string} id @param {string|undefined} view
   * @param {string|undefined} n @param {URL} url @param {any} body
   * @returns {Answer}
   */
  #message(method, address, id, view, n, url, body) {
    const stored = this.boxes.get(address)?.messages.find(({ summary }) => summary.id === id);
    if (!stored) return problem(404, 'not-found', 'There is no such message.');
    if (method === 'DELETE') {
      this.delete(address, id);
      return { status: 204 };
    }
    if (method === 'PATCH') {
      stored.summary = { ...stored.summary, ...body };
      this.#announce(address, { type: 'message.updated', message: stored.summary });
      return ok(stored.summary);
    }
    stored.written ??= write(stored.mail);
    const { raw, headers, parts } = stored.written;
    if (view === 'raw') return { status: 200, body: raw, type: 'message/rfc822' };
    if (view === 'html') {
      const html = (stored.mail.html ?? '').replace(/cid:([\w.@-]+)/g, (_, cid) => {
        const at = leaves(parts).filter(isFile).findIndex(({ filename }) => stored.mail.attachments?.some((each) => each.cid === cid && each.name === filename));
        return `attachments/${at}`;
      });
      const policy = FRAME_POLICY(url.searchParams.has('remote'));
      return { status: 200, body: `<!doctype html><meta charset="utf-8">${html}`, type: 'text/html; charset=utf-8', headers: { 'content-security-policy': policy } };
    }
    if (view === 'attachments') {
      const part = leaves(parts).filter(isFile)[Number(n)];
      if (!part?.content) return problem(404, 'not-found', 'There is no such part.');
      const how = /^(image|text\/plain)/.test(part.content_type) && !url.searchParams.has('download') ? 'inline' : 'attachment';
      return { status: 200, body: part.content, type: part.content_type, headers: { 'content-disposition': `${how}; filename="${part.filename}"` } };
    }
    return ok(detail(stored, headers, parts));
  }
}

/** @param {Stored} stored @param {unknown} headers @param {import('../mail.mjs').Node[]} parts */
function detail({ mail, summary }, headers, parts) {
  const both = `${mail.subject ?? ''}\n${mail.text ?? mail.html ?? ''}`;
  const files = leaves(parts).filter(isFile);
  /** @type {object[]} */
  const flat = [];
  /** @param {import('../mail.mjs').Node} node @param {number|null} parent */
  const flatten = (node, parent) => {
    const index = flat.length;
    const attachment = files.indexOf(node);
    flat.push({ index, parent, media_type: node.content_type, name: node.filename || null, size: node.size, attachment: attachment < 0 ? null : attachment });
    for (const child of node.parts) flatten(child, index);
  };
  for (const part of parts) flatten(part, null);
  return {
    ...summary,
    envelope: { reverse_path: summary.from.address, recipients: [mail.to], helo: 'mail.example.org', client: '192.0.2.7', protocol: 'ESMTP', smtputf8: false, eight_bit: false },
    cc: (mail.headers?.Cc ?? '').split(',').filter(Boolean).map((party) => splitParty(party.trim())),
    parse: 'whole',
    headers,
    headers_truncated: false,
    text: mail.text ?? summary.preview,
    text_truncated: false,
    html: mail.html ?? null,
    html_too_large: false,
    html_remote: /(src|href)=["']?https?:|url\(/i.test((mail.html ?? '').replace(/<a\s[^>]*>/gi, '')),
    attachments: files.map(({ filename, content_type, size }, n) => ({ n, name: filename, media_type: content_type, inline: false, size })),
    parts: flat,
    codes: codesIn(both),
    links: [...both.matchAll(/https?:\/\/[^\s"'<>)]+/g)].map(([url]) => ({ url, text: '' })),
  };
}

/** @param {string} text */
const codesIn = (text) => (/code|码/i.test(text) ? [...new Set([...text.matchAll(/\b\d{6}\b/g)].map(([code]) => code))].slice(0, 3) : []);

/** @param {import('../mail.mjs').Node} node */
const isFile = ({ filename }) => filename !== '';

/** @param {import('../mail.mjs').Node[]} parts @returns {import('../mail.mjs').Node[]} */
const leaves = (parts) => parts.flatMap((part) => (part.parts.length ? leaves(part.parts) : [part]));

/** @param {Stored} stored @param {string} q */
function matches({ mail, summary }, q) {
  return q
    .split(/\s+/)
    .filter(Boolean)
    .every((word) => {
      const [, name, value = ''] = /^(\w+):(.*)$/.exec(word) ?? [];
      if (name === 'is') return value === 'unread' ? !summary.is_read : summary.is_read;
      if (name === 'has') return summary.attachments > 0;
      if (name === 'from') return JSON.stringify(summary.from).toLowerCase().includes(value.toLowerCase());
      if (name === 'tag') return summary.tags.includes(value.replaceAll('"', ''));
      if (name === 'subject') return summary.subject.toLowerCase().includes(value.toLowerCase());
      return `${summary.subject} ${mail.text ?? mail.html ?? ''} ${mail.from}`.toLowerCase().includes(word.toLowerCase());
    });
}

/** @param {any} a @param {any} b */
const isOlder = (a, b) => a.received_at < b.received_at || (a.received_at === b.received_at && a.id < b.id);

/** @param {Box} box */
const boxView = ({ address, created_at, expires_at, messages }) => ({
  address,
  made_by: 'call',
  created_at,
  expires_at,
  messages: messages.length,
  unread: messages.filter(({ summary }) => !summary.is_read).length,
  bytes: messages.reduce((sum, { summary }) => sum + summary.size, 0),
});

/** With open mailboxes: an address that could receive mail. @param {string} address */
const emptyView = (address) => ({ address, made_by: null, created_at: null, expires_at: null, messages: 0, unread: 0, bytes: 0 });

/** @param {string} ttl */
const hours = (ttl) => Number.parseInt(ttl, 10) * { s: 1_000, m: 60_000, h: 3_600_000, d: DAY_MS }[/** @type {'s'|'m'|'h'|'d'} */ (ttl.at(-1))];

/** @param {unknown} body @returns {Answer} */
const ok = (body) => ({ status: 200, body });

/** @param {number} status @param {string} name @param {string} detail @returns {Answer} */
const problem = (status, name, detail) => ({ status, body: { type: `urn:mailroom:problem:${name}`, title: name, status, detail } });
