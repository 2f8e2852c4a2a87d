// New mail outside of the page: title, favicon, and, for who switched them on, a desktop notification and a sound.

import { open } from './actions.js';
import { t } from './i18n.js';
import { keyOf } from './messages.js';
import { settings } from './settings.js';
import { changed, counts, say, show, state } from './store.js';
/** @import {Summary} from './types.js' */

const QUIET_MS = 1_500;

let shownUnread = -1;

/** Title and favicon, at each drawing. */
export function showUnread() {
  const { unread } = counts();
  const subject = state.shown?.detail?.summary.subject;
  const place = subject || state.route.mailbox || '';
  document.title = `${unread ? `(${unread}) ` : ''}${place ? `${place} · ` : ''}Mailroom`;
  if (unread === shownUnread) return;
  shownUnread = unread;
  const icon = document.querySelector('link[rel=icon]');
  icon?.setAttribute('href', unread ? badge(unread > 9 ? '9+' : String(unread)) : 'favicon.svg');
}

/** A favicon that is the count and nothing else: at 16 pixels there is no room for more. @param {string} count */
const badge = (count) =>
  `data:image/svg+xml,${encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="4" fill="#2b5bd7"/><text x="8" y="12.2" fill="#fff" font-size="${count.length > 1 ? 9.6 : 12}" font-family="system-ui" font-weight="700" text-anchor="middle">${count}</text></svg>`)}`;

/** @type {Summary[]} */
let waiting = [];
let timer = 0;

/** Many at once make one notification. @param {Summary[]} messages */
export function announceArrival(messages) {
  if (!settings.notifies && !settings.sounds) return;
  waiting.push(...messages.slice(0, 100));
  timer ||= setTimeout(announce, 100);
}

function announce() {
  const messages = waiting;
  waiting = [];
  setTimeout(() => {
    timer = 0;
    if (waiting.length) announce();
  }, QUIET_MS);
  if (settings.sounds) ring();
  const [message] = messages;
  if (!settings.notifies || !message || document.hasFocus()) return;
  const [title, body] =
    messages.length === 1
      ? [message.from?.name || message.from?.address || t.noSender, message.subject || t.noSubject]
      : [t.newMessages(messages.length), messages.slice(0, 3).map((each) => each.subject || t.noSubject).join('\n')];
  const notification = new Notification(title, { body, tag: 'mailroom', icon: 'favicon.svg' });
  notification.onclick = () => {
    window.focus();
    if (state.list.get(keyOf(message))) open(keyOf(message));
    else show({ ...state.route, message: { mailbox: message.mailbox, id: message.id }, tab: null }, 'push');
    notification.close();
  };
}

/** @type {AudioContext|null} */
let audio = null;

/** Two soft notes; no file to load. */
export function ring() {
  audio ??= new AudioContext();
  const now = audio.currentTime;
  [659.3, 880].forEach((pitch, i) => {
    if (!audio) return;
    const note = audio.createOscillator();
    const loudness = audio.createGain();
    note.frequency.value = pitch;
    loudness.gain.setValueAtTime(0, now + i * 0.11);
    loudness.gain.linearRampToValueAtTime(0.08, now + i * 0.11 + 0.015);
    loudness.gain.exponentialRampToValueAtTime(0.0001, now + i * 0.11 + 0.3);
    note.connect(loudness).connect(audio.destination);
    note.start(now + i * 0.11);
    note.stop(now + i * 0.11 + 0.32);
  });
}

/** @param {boolean} on */
export async function setNotifies(on) {
  if (on && 'Notification' in globalThis) {
    const answer = await Notification.requestPermission();
    settings.notifies = answer === 'granted';
    if (answer !== 'granted') say(t.notificationsBlocked);
  } else {
    settings.notifies = false;
  }
  changed();
}
