// What the page shows, as it stands in the URL's fragment (which no server and no proxy logs):
//   #/all                        all mail            #/in/a@b.c              one mailbox
//   #/all/a@b.c/<id>/<tab>       a message           #/in/a@b.c/<id>/<tab>   ?q=… a search, on any of them

/** @import {Route, Tab} from './types.js' */

/** @type {readonly Tab[]} */
export const TABS = ['html', 'text', 'headers', 'source', 'parts'];

/** @param {string} text */
const encode = (text) => encodeURIComponent(text).replaceAll('%40', '@').replaceAll('%2B', '+');

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** @param {string} hash @returns {Route} */
export function parse(hash) {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const q = new URLSearchParams(query).get('q') ?? '';
  const [kind, ...rest] = path.split('/').map(decode);
  const mailbox = kind === 'in' ? rest[0] || null : null;
  const [owner, id, tab] = rest;
  const message = owner && id ? { mailbox: owner, id } : null;
  return { mailbox, message, tab: TABS.find((known) => known === tab) ?? null, q };
}

/** @param {Route} route */
export function format({ mailbox, message, tab, q }) {
  let path = mailbox === null ? '#/all' : `#/in/${encode(mailbox)}`;
  if (message) {
    if (mailbox === null) path += `/${encode(message.mailbox)}`;
    path += `/${encode(message.id)}`;
    if (tab) path += `/${tab}`;
  }
  return q ? `${path}?${new URLSearchParams({ q })}` : path;
}
