// The left pane with the mailboxes and the form for a new address; and what stands where mail will be.

import { html, nothing } from './vendor/lit-html/lit-html.js';
import * as api from './api.js';
import { createMailbox, extend, useToken } from './actions.js';
import * as format from './i18n.js';
import { t } from './i18n.js';
import { askToken, canRead, changed, counts, isTokenMode, linkTo, state } from './store.js';
import { copyButton, iconButton, icons, onValue } from './widgets.js';

const MOST_SHOWN = 300;
const FILTER_FROM = 12;

/** Lifetimes offered; the empty one is for good. */
const LIFETIMES = ['1h', '24h', '7d', ''];

const WORDS = [
  'amber apple autumn birch blue brave calm cedar clear cloud coral dawn fern field gold green hazel honey iris jade',
  'lake leaf lemon lilac lime maple mint moon oak ocean olive pearl pine plum rain river rose sage sky snow stone sunny',
].join(' ').split(' ');

/** @param {number} below */
const random = (below) => (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) % below;

/** Easy to say over a desk, hard to meet by chance. */
const generated = () => `${WORDS[random(WORDS.length)]}-${WORDS[random(WORDS.length)]}-${1_000 + random(9_000)}`;

const form = {
  isOpen: false,
  suggestion: generated(),
  localPart: '',
  domain: '',
  ttl: '7d',
  busy: false,
};

export function openForm() {
  form.isOpen = true;
  state.drawer = true;
  changed();
  requestAnimationFrame(() => document.querySelector('.sidebar .address-form input')?.scrollIntoView({ block: 'nearest' }));
  setTimeout(() => /** @type {HTMLElement|null} */ (document.querySelector('.address-form input'))?.focus(), 50);
}

export function closeForm() {
  form.isOpen = false;
  changed();
}

/** @param {SubmitEvent} event */
async function submit(event) {
  event.preventDefault();
  const typed = form.localPart.trim();
  const ttl = form.ttl ? { ttl: form.ttl } : {};
  const place = typed.includes('@') ? { address: typed } : { local_part: typed || form.suggestion, domain: domain() };
  form.busy = true;
  changed();
  const isMade = await createMailbox({ ...place, ...ttl });
  form.busy = false;
  if (isMade) Object.assign(form, { isOpen: false, localPart: '', suggestion: generated() });
  changed();
}

const domain = () => form.domain || namedDomains()[0] || 'mailroom.test';
const namedDomains = () => state.domains.filter((each) => each !== '*');

/**
 * An empty field takes the generated name: one key makes an address.
 * @param {'welcome'|'sidebar'} place
 */
export function addressForm(place) {
  const domains = namedDomains().length ? namedDomains() : [domain()];
  return html`<form class="address-form ${place}" @submit=${submit} @keydown=${(/** @type {KeyboardEvent} */ event) => {
    if (event.key === 'Escape') closeForm();
  }}>
    <label class="field address-field"><span class="sr">${t.addressLabel}</span>
      <input name="address" autocomplete="off" autocapitalize="none" spellcheck="false" placeholder=${form.suggestion}
        ?autofocus=${place === 'welcome'} .value=${form.localPart} aria-description=${t.addressHint}
        @input=${onValue((value) => (form.localPart = value))}>
      ${form.localPart.includes('@')
        ? nothing
        : domains.length === 1
          ? html`<span class="at">@${domains[0]}</span>`
          : html`<select aria-label=${t.domain} .value=${domain()} @change=${onValue((value) => (form.domain = value))}>${domains.map((each) => html`<option value=${each}>@${each}</option>`)}</select>`}
    </label>
    <div class="form-line">
      <label class="lifetime"><span>${t.lifetime}</span><select .value=${form.ttl} @change=${onValue((value) => (form.ttl = value))}>${LIFETIMES.map((ttl) => html`<option value=${ttl} ?selected=${ttl === form.ttl}>${t.lifetimes[ttl || 'never']}</option>`)}</select></label>
      <button class="button primary" ?disabled=${form.busy}>${t.create}<kbd>↵</kbd></button>
    </div>
    ${place === 'welcome' ? html`<p class="hint">${t.addressHint}</p>` : nothing}
  </form>`;
}

let filter = '';

/** @param {string} name @param {string|null} mailbox @param {{messages: number, unread: number}} count @param {any} icon */
function entry(name, mailbox, { messages, unread }, icon) {
  const isOpen = state.route.mailbox === mailbox;
  const at = name.lastIndexOf('@');
  const counted = messages ? `${t.messageCount(messages)}, ${t.unreadCount(unread)}` : t.messageCount(messages);
  return html`<li><a class="mailbox ${unread ? 'unread' : ''}" href=${linkTo({ mailbox, message: null, q: '' })}
    aria-current=${isOpen ? 'page' : nothing} title=${`${name}: ${counted}`}>${icon}
    <span class="name">${at < 0 ? name : html`${name.slice(0, at)}<span class="domain">${name.slice(at)}</span>`}</span>
    ${messages ? html`<span class="count ${unread ? 'unread' : ''}" title=${counted}>${format.number(unread || messages)}<span class="sr"> (${counted})</span></span>` : nothing}
  </a></li>`;
}

function mailboxList() {
  const all = [...state.mailboxes.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
  const found = filter ? all.filter(({ address }) => address.includes(filter.toLowerCase())) : all;
  const cut = Math.max(0, found.length - MOST_SHOWN);
  return html`
    ${all.length >= FILTER_FROM
      ? html`<label class="field filter">${icons.search}<span class="sr">${t.filterMailboxes}</span>
          <input type="search" placeholder=${t.filterMailboxes} .value=${filter} @input=${onValue((value) => (filter = value))}></label>`
      : nothing}
    <ul class="mailboxes">${found.slice(0, MOST_SHOWN).map((mailbox) => entry(mailbox.address, mailbox.address, mailbox, icons.mailbox))}</ul>
    ${cut || state.mailboxesCut ? html`<p class="hint">${t.moreMailboxes(cut)}</p>` : nothing}`;
}

/** @param {string} address */
function openMailbox(address) {
  const mailbox = state.mailboxes.get(address);
  const token = isTokenMode() ? api.tokens.get(address) : undefined;
  return html`<section class="open-mailbox" aria-label=${address}>
    <p class="address" title=${address}>${address}</p>
    ${mailbox
      ? html`<p class="expiry">${icons.clock}<span>${mailbox.expires_at ? t.expires(format.relative(mailbox.expires_at)) : t.neverExpires}</span>
          ${mailbox.expires_at ? iconButton(icons.renew, t.extend, () => void extend(address, '7d')) : nothing}</p>`
      : nothing}
    <p class="tools">
      ${copyButton(address, `${t.copyAddress} (c)`, { word: t.copy })}
      ${token ? copyButton(token, t.copyToken, { word: t.token, icon: icons.key }) : nothing}
      <button type="button" class="button quiet" @click=${() => (state.dialog = { kind: 'empty-mailbox', mailbox: address })} ?disabled=${!mailbox?.messages}>${icons.broom}<span>${t.empty}</span></button>
      <button type="button" class="button quiet danger" @click=${() => (state.dialog = { kind: 'delete-mailbox', mailbox: address })} ?disabled=${!mailbox}>${icons.trash}<span>${t.delete}</span></button>
    </p>
  </section>`;
}

function allMail() {
  const { messages, unread } = counts();
  return html`<section class="open-mailbox" aria-label=${t.allMail}>
    <p class="address">${t.allMail}</p>
    <p class="expiry">${icons.inbox}<span>${t.messageCount(messages)}${unread ? `, ${t.unreadCount(unread)}` : ''}</span></p>
    <p class="tools"><button type="button" class="button quiet danger" @click=${() => (state.dialog = { kind: 'empty-all' })} ?disabled=${!messages}>${icons.broom}<span>${t.empty}</span></button></p>
  </section>`;
}

export function sidebar() {
  const { mailbox } = state.route;
  return html`<nav class="sidebar" aria-label=${t.mailboxes}>
    <div class="sidebar-head">
      ${form.isOpen
        ? addressForm('sidebar')
        : html`<button type="button" class="button new-address" title="${t.newAddress} (n)" @click=${openForm}>${icons.plus}<span>${t.newAddress}</span></button>`}
    </div>
    <div class="sidebar-scroll">
      ${isTokenMode()
        ? html`<button type="button" class="mailbox" @click=${() => askToken('')}>${icons.key}<span class="name">${t.openWithToken}</span></button>`
        : html`<ul class="mailboxes all">${entry(t.allMail, null, counts(), icons.inbox)}</ul>`}
      ${state.mailboxesLoaded
        ? mailboxList()
        : html`<ul class="mailboxes skeleton" aria-hidden="true"><li><span class="bone"></span></li><li><span class="bone"></span></li></ul>`}
    </div>
    ${mailbox !== null ? openMailbox(mailbox) : canRead(null) ? allMail() : nothing}
  </nav>`;
}

// ---- instead of mail ----

/** Where this server takes mail, as a program on this machine would reach it. */
function smtp() {
  const first = state.server?.smtp[0];
  if (!first) return null;
  const isAny = first.host === '0.0.0.0' || first.host === '::';
  return { host: isAny ? location.hostname : first.host, port: first.port };
}

/** @param {string} to @returns {[string, string][]} what it is, and what to type; nothing where SMTP does not listen */
function snippets(to) {
  const listener = smtp();
  if (!listener) return [];
  const { host, port } = listener;
  const at = `${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`;
  return [
    ['swaks', `swaks --to ${to} --server ${at}`],
    ['curl', `printf 'Subject: Hello\\r\\n\\r\\nIt works.\\r\\n' | curl smtp://${at} --mail-from me@example.com --mail-rcpt ${to} -T -`],
    [t.mailerConfiguration, `MAIL_HOST=${host}\nMAIL_PORT=${port}\nMAIL_ENCRYPTION=none\nMAIL_USERNAME=\nMAIL_PASSWORD=`],
  ];
}

/** @param {string} to */
function snippetList(to) {
  const list = snippets(to);
  if (!list.length) return nothing;
  return html`<div class="snippets">${list.map(
    ([name, text]) => html`<figure class="snippet">
      <figcaption>${name}</figcaption>${copyButton(text, t.copySnippet(name), { word: t.copy })}
      <pre tabindex="0" aria-label=${name}>${text}</pre>
    </figure>`,
  )}</div>`;
}

/**
 * Opens a mailbox of another browser, or of a call.
 * @param {string} mailbox
 * @param {() => void} [cancel] where it can be left
 */
export const tokenForm = (mailbox, cancel) => html`<form class="token-form" @submit=${(/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  const fields = new FormData(/** @type {HTMLFormElement} */ (event.target));
  void useToken(String(fields.get('address')).trim(), String(fields.get('token')).trim());
}}>
  <label>${t.addressLabel}<span class="field"><input name="address" required autocomplete="off" autocapitalize="none" spellcheck="false" .value=${mailbox} ?autofocus=${cancel && !mailbox}></span></label>
  <label>${t.token}<span class="field"><input name="token" type="password" required autocomplete="off" ?autofocus=${cancel && mailbox}></span></label>
  ${state.tokenTry.isWrong ? html`<p class="wrong" role="alert">${t.tokenWrong}</p>` : nothing}
  <p class="dialog-actions">${cancel ? html`<button type="button" class="button" @click=${cancel}>${t.cancel}</button>` : nothing}
    <button class="button primary" ?disabled=${state.tokenTry.busy}>${t.openMailbox}</button></p>
</form>`;

/** The start page where mailboxes ask for tokens: make one, or open one. @param {string|null} mailbox what was asked for */
const tokenWelcome = (mailbox) => html`<section class="welcome" aria-label=${t.tokenWelcomeTitle}>
  <div class="welcome-body">
    <h1>${t.tokenWelcomeTitle}</h1><p class="lead">${t.tokenWelcomeLead}</p>
    ${mailbox === null ? addressForm('welcome') : nothing}
    <h2>${mailbox === null ? t.openWithToken : t.openThisWithToken(mailbox)}</h2>
    <div class="boxed">${state.dialog?.kind === 'token' ? nothing : tokenForm(mailbox ?? '')}</div>
  </div>
</section>`;

/** Instead of an empty list. */
export function welcome() {
  const { mailbox } = state.route;
  if (!canRead(mailbox)) return tokenWelcome(mailbox);
  const domain = state.domains.find((each) => each !== '*') ?? 'example.com';
  const isFirst = mailbox === null && counts().messages === 0;
  const token = isTokenMode() && mailbox !== null ? api.tokens.get(mailbox) : undefined;
  const list = snippetList(mailbox ?? `hello@${domain}`);
  return html`<section class="welcome" aria-label=${t.welcomeTitle}>
    <div class="welcome-body">
      ${mailbox === null
        ? html`<h1>${isFirst ? t.welcomeTitle : t.nothingHere}</h1><p class="lead">${t.welcomeLead}</p>${addressForm('welcome')}`
        : html`<p class="eyebrow"><span class="pulse ${state.live.kind}"></span>${t.waitingForMail}</p>
          <h1 class="big-address"><span>${mailbox}</span>${copyButton(mailbox, t.copyAddress, { word: t.copy, kind: 'primary' })}</h1>
          <p class="lead">${t.waitingLead}</p>
          ${token ? html`<p class="own-token">${icons.key}<span>${t.tokenKept}</span>${copyButton(token, t.copyToken, { word: t.copyToken, kind: '' })}</p>` : nothing}`}
      ${list === nothing ? nothing : html`<h2>${t.sendFirst}</h2>${list}`}
    </div>
  </section>`;
}

/** Beside a list with mail, when none of it is open. */
export const nothingOpen = () => html`<section class="nothing-open">
  <div>${icons.opened}<p>${t.nothingOpen}</p>
  <p class="hints"><kbd>j</kbd> <kbd>k</kbd> ${t.moveHint} <span>·</span> <kbd>Enter</kbd> ${t.keys.open} <span>·</span> <kbd>?</kbd> ${t.keys.help}</p></div>
</section>`;

