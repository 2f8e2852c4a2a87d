// Reading plain text: links in it, codes in it, matches in it. Pure.

/** @typedef {{text: string, href?: string}} Piece */

const LINK = /\bhttps?:\/\/[^\s<>"'`]+|\bmailto:[^\s<>"'`]+/gi;

/** Cuts text at its links. @param {string} text @returns {Piece[]} */
export function linkPieces(text) {
  /** @type {Piece[]} */
  const pieces = [];
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    const href = trimLink(match[0]);
    if (match.index > end) pieces.push({ text: text.slice(end, match.index) });
    pieces.push({ text: href, href });
    end = match.index + href.length;
  }
  if (end < text.length) pieces.push({ text: text.slice(end) });
  return pieces;
}

/** Without the sentence's own punctuation; a closing bracket stays when it was opened inside. @param {string} link */
function trimLink(link) {
  let end = link.length;
  for (;;) {
    const last = link[end - 1] ?? '';
    const inside = link.slice(0, end);
    const closes = last === ')' ? '(' : last === ']' ? '[' : '';
    const isUnopened = closes !== '' && inside.split(closes).length < inside.split(last).length;
    if (!'.,;:!?*_|。，；：！？）】》'.includes(last) && !isUnopened) return inside;
    end -= 1;
  }
}

const KEYWORD =
  /\b(?:codes?|otp|pin|passcode|one[- ]time|verif\w*|confirm\w*|2fa|mfa|tan|sign[- ]?in|log[- ]?in|código|codice|kode)\b|验证码|校验码|动态码|确认码|code ?:/gi;
const CANDIDATE =
  /(?<![\w.,#$€£¥/:@+-])(?:\d{4,8}|\d{3}[- ]\d{3}|(?=[A-Z\d]*\d)(?=[A-Z\d]*[A-Z])[A-Z\d]{6,8})(?![\w/:@%-]|[.,]\d)/g;
const REACH = 80;

/** The code a person was sent this for: the candidate nearest to a word that says so. @param {string} text @returns {string|null} */
export function findCode(text) {
  const words = [...text.matchAll(KEYWORD)].map(({ index, 0: word }) => index + word.length / 2);
  if (!words.length) return null;
  let best = null;
  let bestDistance = REACH;
  for (const { index, 0: code } of text.matchAll(CANDIDATE)) {
    const isYear = /^(?:19|20)\d\d$/.test(code);
    const distance = Math.min(...words.map((at) => Math.abs(at - index))) + (isYear ? REACH / 2 : 0);
    if (distance < bestDistance) [best, bestDistance] = [code, distance];
  }
  return best;
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
