// What the browser keeps for this page. Where storage is blocked, nothing is kept and everything else works.

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
