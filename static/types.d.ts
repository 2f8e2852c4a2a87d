// The shapes that modules hand to each other. For the type checker and for readers; the page never loads this file.

export interface Party {
  name: string | null;
  address: string | null;
}

/** One line of a message list. */
export interface Summary {
  id: string;
  uid: number;
  mailbox: string;
  from: Party | null;
  to: Party[];
  subject: string;
  preview: string;
  date: string | null;
  received_at: string;
  expires_at: string | null;
  size: number;
  attachments: number;
  is_read: boolean;
  tags: string[];
  /** In subject and preview, the likeliest first. */
  codes: string[];
}

/** One node of the MIME tree. */
export interface Part {
  /** Its number under …/attachments/; null for what has no content of its own. */
  n: number | null;
  /** Media type, lower case. */
  type: string;
  name: string;
  /** Bytes after decoding. */
  size: number;
  children: Part[];
}

/** What came with the message, as its header names it. */
export interface Attachment {
  n: number;
  name: string;
  /** Media type, lower case. */
  type: string;
  /** Bytes after decoding. */
  size: number;
}

export interface Envelope {
  reverse_path: string;
  recipients: string[];
  helo: string;
  client: string;
  protocol: string;
}

export interface Detail {
  summary: Summary;
  cc: Party[];
  /** Without what belongs to the html. */
  attachments: Attachment[];
  envelope: Envelope | null;
  /** `raw` is the whole field as it came. */
  headers: { name: string; value: string; raw: string }[];
  /** Made from the html where there is no text. */
  text: string;
  hasHtml: boolean;
  /** The html refers to things elsewhere. */
  hasRemote: boolean;
  parts: Part[];
  partCount: number;
  codes: string[];
  links: { url: string; text: string }[];
  /** The parser could not read all of it. */
  isDamaged: boolean;
}

export interface Mailbox {
  address: string;
  /** null: an address that could receive mail, and has not yet. */
  created_at: string | null;
  expires_at: string | null;
  messages: number;
  unread: number;
}

export interface Server {
  version: string;
  /** Where SMTP listens: IP addresses; the unspecified one is all of that machine's. */
  smtp: { host: string; port: number }[];
  access: 'open' | 'token';
}

/** A page of a list; `next` is where the one after it starts, `cursor` the list's place in the events. */
export interface Page<T> {
  items: T[];
  next: string | null;
  cursor: string | null;
}

/** Why a call failed, as far as the page makes a difference. */
export type Cause = 'network' | 'unauthorized' | 'missing' | 'conflict' | 'invalid' | 'failed';

/** What the socket reports. */
export type MailEvent =
  | { type: 'message.received'; mailbox: string; message: Summary }
  | { type: 'message.updated'; mailbox: string; message: Summary }
  | { type: 'message.deleted'; mailbox: string; id: string; uid: number }
  | { type: 'messages.expired'; mailbox: string; through_uid: number }
  | { type: 'mailbox.deleted'; mailbox: string };

export type LiveState =
  | { kind: 'connecting' | 'live' | 'offline' }
  | { kind: 'waiting'; until: number; failures: number };

export type Tab = 'html' | 'text' | 'headers' | 'source' | 'parts';

/** What the page shows, as the URL says it. */
export interface Route {
  /** The mailbox listed; null is all mail. */
  mailbox: string | null;
  message: { mailbox: string; id: string } | null;
  /** null is the best one the message has. */
  tab: Tab | null;
  /** A search; empty is none. */
  q: string;
}

/** The server did not say what it is: nothing can be shown until it does. */
export interface Silence {
  failure: import('./api.js').Failure;
  /** When it is asked again, in milliseconds since the epoch. */
  until: number;
}

/** The message in the right pane, on its way, there, or failed. */
export interface Shown {
  key: string;
  detail: Detail | null;
  failure: import('./api.js').Failure | null;
}

/** Messages that are hidden, and deleted when their time to undo is up. */
export interface Deletion {
  keys: Set<string>;
  until: number;
  timer: number;
}

export type Dialog =
  | { kind: 'keys' }
  | { kind: 'token'; mailbox: string }
  | { kind: 'empty-all' }
  | { kind: 'delete-mailbox' | 'empty-mailbox'; mailbox: string };
