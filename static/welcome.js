// What stands where mail will be: how to get an address, and the lines that send the first message to this server.

import { html } from './vendor/lit-html/lit-html.js';
import { icons } from './icons.js';
import { t } from './i18n.js';
import { addressForm } from './sidebar.js';
import { counts, state } from './store.js';
import { copyButton } from './widgets.js';

/** Where this server takes mail, as a program on this machine would reach it. */
function smtp() {
  const { host = '', port = 2525 } = state.server?.smtp[0] ?? {};
  const isAny = host === '' || host === '0.0.0.0' || host === '::' || host === '[::]';
  return { host: isAny ? location.hostname : host, port };
}

/** @param {string} to @returns {[string, string][]} what it is, and what to type */
function snippets(to) {
  const { host, port } = smtp();
  const at = `${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`;
  return [
    ['swaks', `swaks --to ${to} --server ${at}`],
    ['curl', `printf 'Subject: Hello\\r\\n\\r\\nIt works.\\r\\n' | curl smtp://${at} --mail-from me@example.com --mail-rcpt ${to} -T -`],
    [t.mailerConfiguration, `MAIL_HOST=${host}\nMAIL_PORT=${port}\nMAIL_ENCRYPTION=none\nMAIL_USERNAME=\nMAIL_PASSWORD=`],
  ];
}

/** @param {string} to */
const snippetList = (to) => html`<div class="snippets">${snippets(to).map(
  ([name, text]) => html`<figure class="snippet">
    <figcaption>${name}</figcaption>${copyButton(text, t.copySnippet(name), { word: t.copy })}
    <pre tabindex="0" aria-label=${name}>${text}</pre>
  </figure>`,
)}</div>`;

/** Instead of an empty list. */
export function welcome() {
  const { mailbox } = state.route;
  const domain = state.domains.find((each) => each !== '*') ?? 'example.com';
  const isFirst = mailbox === null && counts().messages === 0;
  return html`<section class="welcome" aria-label=${t.welcomeTitle}>
    <div class="welcome-body">
      ${mailbox === null
        ? html`<h1>${isFirst ? t.welcomeTitle : t.nothingHere}</h1><p class="lead">${t.welcomeLead}</p>${addressForm('welcome')}`
        : html`<p class="eyebrow"><span class="pulse ${state.live.kind}"></span>${t.waitingForMail}</p>
          <h1 class="big-address"><span>${mailbox}</span>${copyButton(mailbox, t.copyAddress, { word: t.copy, kind: 'primary' })}</h1>
          <p class="lead">${t.waitingLead}</p>`}
      <h2>${t.sendFirst}</h2>
      ${snippetList(mailbox ?? `hello@${domain}`)}
    </div>
  </section>`;
}

/** Beside a list with mail, when none of it is open. */
export const nothingOpen = () => html`<section class="nothing-open">
  <div>${icons.opened}<p>${t.nothingOpen}</p>
  <p class="hints"><kbd>j</kbd> <kbd>k</kbd> ${t.moveHint} <span>·</span> <kbd>Enter</kbd> ${t.keys.open} <span>·</span> <kbd>?</kbd> ${t.keys.help}</p></div>
</section>`;

