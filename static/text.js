// Reading text: links and matches in it; calendar invitations (RFC 5545) and contact cards (RFC 6350) as far as
// a person wants to see them. Pure.

/** @typedef {{text: string, href?: string}} Piece */

const LINK = /\bhttps?:\/\/[^\s<>"'`]+|\bmailto:[^\s<>"'`]+/gi;
const LONGEST_LINK = 8 * 1024;
const MOST_LINKS = 1_000;

/** Cuts text at its links. @param {string} text @returns {Piece[]} */
export function linkPieces(text) {
  /** @type {Piece[]} */
  const pieces = [];
  let end = 0;
  let links = 0;
  for (const { index, 0: match } of text.matchAll(LINK)) {
    if (match.length > LONGEST_LINK) continue;
    if ((links += 1) > MOST_LINKS) break;
    const href = trimLink(match);
    if (index > end) pieces.push({ text: text.slice(end, index) });
    pieces.push({ text: href, href });
    end = index + href.length;
  }
  if (end < text.length) pieces.push({ text: text.slice(end) });
  return pieces;
}

/** Without the sentence's own punctuation; a closing bracket stays when it was opened inside. @param {string} link */
function trimLink(link) {
  const count = (/** @type {string} */ char) => link.split(char).length;
  /** @type {Record<string, number>} */
  const unopened = { ')': count(')') - count('('), ']': count(']') - count('[') };
  let end = link.length;
  for (; end; end -= 1) {
    const last = link.charAt(end - 1);
    const more = unopened[last] ?? 0;
    if (more > 0) unopened[last] = more - 1;
    else if (!'.,;:!?*_|。，；：！？）】》'.includes(last)) break;
  }
  return link.slice(0, end);
}

/** Cuts text at what is searched for. @param {string} text @param {string} wanted @param {number} most @returns {{text: string, isMatch: boolean}[]} */
export function matchPieces(text, wanted, most) {
  if (!wanted) return [{ text, isMatch: false }];
  const pieces = [];
  const pattern = new RegExp(wanted.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'gi');
  let end = 0;
  let matches = 0;
  for (const { index, 0: match } of text.matchAll(pattern)) {
    if ((matches += 1) > most) break;
    pieces.push({ text: text.slice(end, index), isMatch: false }, { text: match, isMatch: true });
    end = index + match.length;
  }
  pieces.push({ text: text.slice(end), isMatch: false });
  return pieces;
}

/** @typedef {{name: string, params: Record<string, string>, value: string}} Line */
/** @typedef {{kind: 'text', value: string} | {kind: 'date', value: Date, wholeDay: boolean, zone: string}} Field */
/** @typedef {{title: string, fields: [string, Field][]}} Card */

const MOST_CARDS = 50;
const MOST_FIELDS = 100;

/** Unfolds and splits into content lines. @param {string} text @returns {Line[]} */
const lines = (text) => text.replace(/\r?\n[ \t]/g, '').split(/\r?\n/).flatMap(contentLine);

/** `group.NAME;PARAM=value,"quoted: value":value`, in linear time. @param {string} line @returns {Line[]} */
function contentLine(line) {
  // What is quoted ends nothing.
  const masked = line.replace(/"[^"]*"/g, (quoted) => ' '.repeat(quoted.length));
  const end = masked.indexOf(':');
  const [name = '', ...rest] = masked.slice(0, Math.max(end, 0)).split(';');
  /** @type {Record<string, string>} */
  const params = {};
  let at = name.length + 1;
  for (const param of rest) {
    const [, key, value = ''] = /^([\w-]+)=([^]*)$/.exec(line.slice(at, at + param.length)) ?? [];
    if (!key || param.includes('"')) return [];
    params[key.toUpperCase()] = value.replaceAll('"', '');
    at += param.length + 1;
  }
  const [, plain] = /^(?:[\w-]+\.)?([\w-]+)$/.exec(name) ?? [];
  return plain ? [{ name: plain.toUpperCase(), params, value: line.slice(end + 1) }] : [];
}

/** @param {string} value */
const unescape = (value) => value.replace(/\\([nN,;\\])/g, (_, char) => (char === 'n' || char === 'N' ? '\n' : char));

/** @param {Line} line */
const person = ({ params, value }) => {
  const address = value.replace(/^mailto:/i, '');
  return params.CN && params.CN !== address ? `${params.CN} <${address}>` : address;
};

/** @param {Line} line @returns {Field} */
function when({ params, value }) {
  const match = /^(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)(Z?))?/.exec(value);
  if (!match) return { kind: 'text', value };
  const [, year, month, day, hour, minute, second, utc] = match;
  const at = Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour ?? 0), Number(minute ?? 0), Number(second ?? 0));
  return { kind: 'date', value: new Date(at), wholeDay: hour === undefined, zone: utc ? 'UTC' : (params.TZID ?? '') };
}

/** The things between BEGIN:kind and END:kind. @param {Line[]} all @param {string} kind @returns {Line[][]} */
function blocks(all, kind) {
  /** @type {Line[][]} */
  const found = [];
  let depth = 0;
  for (const line of all) {
    const isOurs = line.value.toUpperCase() === kind;
    if (line.name === 'BEGIN' && isOurs) {
      found.push([]);
      depth = 1;
    } else if (line.name === 'END' && isOurs) depth = 0;
    // Alarms and other blocks inside have fields of the same names.
    else if (line.name === 'BEGIN') depth += depth ? 1 : 0;
    else if (line.name === 'END') depth -= depth ? 1 : 0;
    else if (depth === 1 && (found.at(-1)?.length ?? 0) < MOST_FIELDS) found.at(-1)?.push(line);
    if (found.length > MOST_CARDS) break;
  }
  return found.slice(0, MOST_CARDS);
}

/** @param {string} text @returns {Card[]} field names are keys of the words' `readout` */
export function calendar(text) {
  return blocks(lines(text), 'VEVENT').map((event) => {
    /** @type {Card} */
    const card = { title: '', fields: [] };
    for (const line of event) {
      const plain = unescape(line.value);
      if (line.name === 'SUMMARY') card.title = plain;
      else if (line.name === 'DTSTART') card.fields.push(['start', when(line)]);
      else if (line.name === 'DTEND') card.fields.push(['end', when(line)]);
      else if (line.name === 'LOCATION') card.fields.push(['location', { kind: 'text', value: plain }]);
      else if (line.name === 'ORGANIZER') card.fields.push(['organizer', { kind: 'text', value: person(line) }]);
      else if (line.name === 'ATTENDEE') card.fields.push(['attendee', { kind: 'text', value: person(line) }]);
      else if (line.name === 'RRULE') card.fields.push(['repeats', { kind: 'text', value: line.value }]);
      else if (line.name === 'STATUS') card.fields.push(['status', { kind: 'text', value: plain }]);
      else if (line.name === 'DESCRIPTION') card.fields.push(['description', { kind: 'text', value: plain }]);
    }
    return card;
  });
}

/** @param {string} text @returns {Card[]} */
export function contacts(text) {
  /** @type {Record<string, string>} */
  const names = { EMAIL: 'email', TEL: 'phone', ORG: 'organization', TITLE: 'role', URL: 'url', ADR: 'address', BDAY: 'birthday', NOTE: 'description' };
  return blocks(lines(text), 'VCARD').map((contact) => {
    /** @type {Card} */
    const card = { title: '', fields: [] };
    for (const { name, value } of contact) {
      const plain = unescape(value);
      const field = names[name];
      if (name === 'FN' || (name === 'N' && !card.title)) card.title = plain.replaceAll(';', ' ').trim();
      else if (field) {
        const joined = name === 'ADR' || name === 'ORG' ? plain.split(';').filter(Boolean).join(', ') : plain.replace(/^tel:|^mailto:/i, '');
        card.fields.push([field, { kind: 'text', value: joined }]);
      }
    }
    return card;
  });
}
