// A message as the tests describe it, written out as MIME. Used by the mock and by the SMTP client alike.

/**
 * @typedef {{name: string, type: string, content: Buffer|string, cid?: string}} Attachment
 * @typedef {{from?: string, to: string, subject?: string, text?: string, html?: string, attachments?: Attachment[],
 *   headers?: Record<string, string>, date?: Date, tags?: string[], isRead?: boolean}} Mail
 * @typedef {{content_type: string, filename: string, size: number, parts: Node[], content: Buffer|null}} Node
 */

const CRLF = '\r\n';

/** RFC 2047, for what is not ASCII. @param {string} text */
const encodeWord = (text) => (/^[\x20-\x7e]*$/.test(text) ? text : `=?utf-8?B?${Buffer.from(text).toString('base64')}?=`);

/** @param {string} party `Name <address>` or an address */
export function splitParty(party) {
  const match = /^(.*?)\s*<([^<>]*)>$/.exec(party);
  return match ? { name: match[1] || null, address: match[2] ?? null } : { name: null, address: party };
}

/** @param {string} party */
function encodeParty(party) {
  const { name, address } = splitParty(party);
  return name ? `${encodeWord(name)} <${address}>` : `${address}`;
}

/** @param {Buffer} content */
const base64 = (content) => content.toString('base64').replace(/.{76}/g, `$&${CRLF}`);

/** @param {Mail} mail @returns {{raw: string, headers: {name: string, value: string, raw: string}[], parts: Node[]}} */
export function write(mail) {
  /** @param {string} type @param {string} name @param {Buffer|string} content @param {string} [cid] */
  const leaf = (type, name, content, cid) => {
    const bytes = Buffer.from(content);
    const head = [
      `Content-Type: ${type}${type.startsWith('text/') ? '; charset=utf-8' : ''}${name ? `; name="${name}"` : ''}`,
      'Content-Transfer-Encoding: base64',
      ...(name ? [`Content-Disposition: ${cid ? 'inline' : 'attachment'}; filename="${name}"`] : []),
      ...(cid ? [`Content-ID: <${cid}>`] : []),
    ];
    /** @type {Node} */
    const node = { content_type: type, filename: name, size: bytes.length, parts: [], content: bytes };
    return { head, body: base64(bytes), node };
  };
  /** @param {string} type @param {ReturnType<typeof leaf>[]} children @returns {ReturnType<typeof leaf>} */
  const multi = (type, children) => {
    if (children.length === 1 && children[0]) return children[0];
    const boundary = `=_${type.replace('/', '-')}-${children.length}`;
    const body = children.map(({ head, body: inner }) => `--${boundary}${CRLF}${head.join(CRLF)}${CRLF}${CRLF}${inner}${CRLF}`).join('');
    return {
      head: [`Content-Type: ${type}; boundary="${boundary}"`],
      body: `${body}--${boundary}--`,
      node: { content_type: type, filename: '', size: 0, parts: children.map(({ node }) => node), content: null },
    };
  };
  const bodies = [
    ...(mail.text !== undefined || mail.html === undefined ? [leaf('text/plain', '', mail.text ?? '')] : []),
    ...(mail.html !== undefined ? [leaf('text/html', '', mail.html)] : []),
  ];
  const files = (mail.attachments ?? []).map(({ name, type, content, cid }) => leaf(type, name, content, cid));
  const root = multi('multipart/mixed', [multi('multipart/alternative', bodies), ...files]);
  const fields = [
    ['From', encodeParty(mail.from ?? 'Sender <sender@example.org>')],
    ['To', mail.to],
    ...(mail.subject === undefined ? [] : [['Subject', encodeWord(mail.subject)]]),
    ['Date', (mail.date ?? new Date()).toUTCString().replace('GMT', '+0000')],
    ['Message-ID', `<${Math.random().toString(36).slice(2)}@example.org>`],
    ['MIME-Version', '1.0'],
    ...Object.entries(mail.headers ?? {}),
  ];
  const lines = [...fields.map(([name, value]) => `${name}: ${value}`), ...root.head];
  const headers = lines.map((raw) => {
    const [name = '', ...rest] = raw.split(':');
    return { name, value: rest.join(':').trim(), raw };
  });
  return { raw: `${lines.join(CRLF)}${CRLF}${CRLF}${root.body}${CRLF}`, headers, parts: [root.node] };
}
