// What this browser remembers for its user. Where storage is blocked, nothing is kept and everything else works.

const PREFIX = 'mailroom.';

/** @param {string} name @returns {string} empty when there is none */
export function read(name) {
  try {
    return localStorage.getItem(PREFIX + name) ?? '';
  } catch {
    return '';
  }
}

/** @param {string} name @param {string} value empty forgets it */
export function write(name, value) {
  try {
    if (value) localStorage.setItem(PREFIX + name, value);
    else localStorage.removeItem(PREFIX + name);
  } catch {
    // Not kept.
  }
}

/** @typedef {'phone'|'tablet'|'full'} Width */

const systemDark = matchMedia('(prefers-color-scheme: dark)');

export const settings = {
  get isDark() {
    const theme = read('theme');
    return theme ? theme === 'dark' : systemDark.matches;
  },
  set isDark(dark) {
    write('theme', dark ? 'dark' : 'light');
    document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  },
  /** A permission taken back in the browser counts. */
  get notifies() {
    return read('notify') === 'on' && 'Notification' in globalThis && Notification.permission === 'granted';
  },
  set notifies(on) {
    write('notify', on ? 'on' : '');
  },
  get sounds() {
    return read('sound') === 'on';
  },
  set sounds(on) {
    write('sound', on ? 'on' : '');
  },
  /** @returns {Width} */
  get width() {
    const width = read('width');
    return width === 'phone' || width === 'tablet' ? width : 'full';
  },
  set width(width) {
    write('width', width === 'full' ? '' : width);
  },
};

/** @param {() => void} hook called when the system changes between light and dark */
export const onSystemTheme = (hook) => systemDark.addEventListener('change', hook);
