// English. A value with blanks to fill in is a function; zh.js has the same keys, which the type checker sees to.

import * as format from '../i18n.js';

/** @typedef {import('../types.js').Cause} Cause */

/** @param {number} count @param {string} one @param {string} many */
const plural = (count, one, many) => `${format.number(count)} ${count === 1 ? one : many}`;

/** @param {Cause} cause @param {string} detail what the server says about it */
function failure(cause, detail) {
  switch (cause) {
    case 'network':
      return 'The server is not answering.';
    case 'unauthorized':
      return 'This mailbox opens with a token.';
    case 'missing':
      return 'This is not there, or no longer.';
    case 'conflict':
      return 'This address exists already.';
    case 'invalid':
      return detail ? `The server did not accept this: ${detail}` : 'The server did not accept this.';
    case 'failed':
      return 'Something went wrong on the server. Its log says what.';
  }
}

export default {
  // Moving about
  allMail: 'All mail',
  mailboxes: 'Mailboxes',
  messages: 'Messages',
  back: 'Back',
  close: 'Close',
  cancel: 'Cancel',
  moreMailboxes: (/** @type {number} */ count) => (count ? `${format.number(count)} more: type to find one.` : 'There are more: search for the mail itself.'),
  filterMailboxes: 'Find a mailbox',

  // Addresses
  newAddress: 'New address',
  addressLabel: 'Address',
  addressHint: 'Press Enter to take the suggested name, or type your own.',
  domain: 'Domain',
  lifetime: 'Keep',
  lifetimes: /** @type {Record<string, string>} */ ({ '1h': 'for 1 hour', '24h': 'for 1 day', '7d': 'for 7 days', never: 'for good' }),
  create: 'Create',
  copy: 'Copy',
  copied: 'Copied',
  copyAddress: 'Copy address',
  addressCopied: (/** @type {string} */ address) => `${address} is copied.`,
  expires: (/** @type {string} */ when) => `expires ${when}`,
  neverExpires: 'kept for good',
  extend: 'Extend to 7 days from now',
  empty: 'Empty',
  delete: 'Delete',
  deleteMailbox: 'Delete mailbox',
  deleteMailboxQuestion: (/** @type {string} */ address) => `Delete ${address} with all its mail? This cannot be undone.`,
  emptyAll: 'Delete all mail',
  emptyAllQuestion: (/** @type {number} */ count) => `Delete all mail of all mailboxes, ${plural(count, 'message', 'messages')}? This cannot be undone.`,
  emptyMailbox: 'Empty mailbox',
  emptyMailboxQuestion: (/** @type {string} */ address) => `Delete all mail in ${address}? This cannot be undone.`,

  // First visit
  welcomeTitle: 'No mail yet. Let’s change that.',
  welcomeLead: 'Make an address, or just send: any address this server accepts becomes a mailbox with its first message.',
  nothingHere: 'No mail here',
  waitingForMail: 'Waiting for mail',
  waitingLead: 'What is sent to this address appears here by itself, as it arrives.',
  sendFirst: 'Send the first message',
  mailerConfiguration: 'Mailer settings',
  copySnippet: (/** @type {string} */ name) => `Copy the lines for ${name}`,

  // List
  unread: 'Unread',
  unreadCount: (/** @type {number} */ count) => `${format.number(count)} unread`,
  messageCount: (/** @type {number} */ count) => plural(count, 'message', 'messages'),
  attachmentCount: (/** @type {number} */ count) => plural(count, 'attachment', 'attachments'),
  allAttachments: (/** @type {number} */ count) => `All ${format.number(count)} attachments`,
  newMessages: (/** @type {number} */ count) => `${format.number(count)} new`,
  noSender: '(no sender)',
  noSubject: '(no subject)',
  noMail: 'Nothing here yet.',
  moveHint: 'move',
  nothingOpen: 'Open a message to read it here.',
  selectMessage: (/** @type {string} */ sender) => `Select the message from ${sender}`,
  selectedCount: (/** @type {number} */ count) => `${format.number(count)} selected`,
  selectAll: 'Select all',
  clearSelection: 'Clear selection',
  markRead: 'Mark as read',
  markUnread: 'Mark as unread',
  deletedCount: (/** @type {number} */ count) => `${plural(count, 'message', 'messages')} deleted`,
  undo: 'Undo',

  // Search
  search: 'Search',
  searchHint: 'Search mail',
  searchSyntax: 'Words that narrow a search',
  searchResults: 'Search results',
  clearSearch: 'Clear the search',
  badSearch: (/** @type {string} */ detail) => `This search cannot be read: ${detail}`,
  operators: [
    ['from:ann', 'sender'], ['to:bob', 'recipient'], ['subject:order', 'subject'], ['has:attachment', 'with a file'], ['is:unread', 'not read yet'],
    ['before:2026-11-21', 'older'], ['after:2026-11-21', 'since that day'], ['larger:2MB', 'larger'], ['smaller:10K', 'smaller'], ['tag:ci', 'with this tag'],
    ['-word', 'without it'], ['"two words"', 'side by side'], ['word*', 'how a word begins'], ['a OR b', 'either'],
  ],
  nothingFound: (/** @type {string} */ q) => `No message matches “${q}”.`,

  // Message
  views: 'Views of the message',
  tabs: { html: 'HTML', text: 'Text', headers: 'Headers', source: 'Source', parts: 'Parts' },
  to: (/** @type {string} */ names) => `to ${names}`,
  cc: (/** @type {string} */ names) => `cc ${names}`,
  addTag: 'Add a tag',
  removeTag: (/** @type {string} */ tag) => `Remove the tag ${tag}`,
  searchTag: (/** @type {string} */ tag) => `Find mail with the tag ${tag}`,
  inMailbox: (/** @type {string} */ address) => `in ${address}`,
  download: 'Download',
  width: 'Width',
  widths: { phone: 'Phone width', tablet: 'Tablet width', full: 'Full width' },
  remoteOff: 'Remote content is off, so that nobody learns that this was read.',
  showOnce: 'Show once',
  damaged: 'Parts of this message could not be read. Its source is complete.',
  messageGone: 'This message is no longer there. It was deleted, or its time was up.',
  noText: 'This message has no text.',
  cut: 'The rest is in the download.',
  envelope: 'Envelope',
  raw: 'Raw',
  copyHeaders: 'Copy all headers',
  copySource: 'Copy the source',
  copyCode: (/** @type {string} */ code) => `Copy code ${code}`,
  copyLink: 'Copy link',
  linkCount: (/** @type {number} */ count) => plural(count, 'link', 'links'),
  searchSource: 'Find in source',
  matchOf: (/** @type {number} */ at, /** @type {number} */ all) => `${format.number(at)} of ${format.number(all)}`,
  noMatch: 'No match',
  previousMatch: 'Previous match',
  nextMatch: 'Next match',
  noParts: 'This message has no parts.',
  downloadPart: (/** @type {string} */ name) => `Download ${name}`,
  nothingToRead: 'Nothing in it could be read out. The download has it all.',
  readout: {
    start: 'Starts', end: 'Ends', location: 'Where', organizer: 'Organizer', attendee: 'Attendee', repeats: 'Repeats', status: 'Status',
    description: 'Notes', email: 'Email', phone: 'Phone', organization: 'Organization', role: 'Role', url: 'Web', address: 'Address', birthday: 'Birthday',
  },

  // Server and connection
  failure,
  tryAgain: 'Try again',
  tryNow: 'Try now',
  askingAgain: (/** @type {number} */ seconds) => (seconds > 0 ? `Asking again in ${seconds}\u00a0s.` : 'Asking again.'),
  serverSilent: (/** @type {number} */ seconds) => (seconds > 0 ? `The server is not answering. Trying again in ${seconds}\u00a0s.` : 'The server is not answering. Trying again.'),
  live: {
    connecting: 'connecting',
    live: 'live',
    offline: 'offline',
    waiting: (/** @type {number} */ seconds) => `reconnecting in ${seconds}\u00a0s`,
  },
  liveHint: {
    connecting: 'Connecting to the server',
    live: 'New mail appears as it arrives',
    offline: 'This computer has no network',
    waiting: 'The connection is lost. Nothing is missed: press to try now.',
  },

  // Tokens
  tokenTitle: 'Open a mailbox',
  tokenLead: 'On this server a mailbox opens with the token that was given out when it was made. It is kept in this browser.',
  token: 'Token',
  tokenWrong: 'No mailbox of this address opens with this token.',
  openMailbox: 'Open',
  openWithToken: 'Open with a token',
  openThisWithToken: (/** @type {string} */ address) => `Open ${address} with its token`,
  tokenWelcomeTitle: 'Make a mailbox, or open one',
  tokenWelcomeLead: 'On this server each mailbox opens with a token of its own. Make one here and this browser keeps its token; or open one whose token you were given.',
  tokenKept: 'This browser keeps the token of this mailbox. Copy it to open the mailbox elsewhere: the server does not show it again.',
  copyToken: 'Copy token',

  // Settings
  settings: 'Settings',
  language: 'Language',
  notifications: 'Desktop notifications',
  notificationsBlocked: 'The browser does not allow notifications for this page.',
  sound: 'Sound for new mail',
  dark: 'Dark colours',
  toDark: 'Switch to dark colours',
  toLight: 'Switch to light colours',
  apiDocs: 'API reference',

  keys: {
    move: 'next message',
    moveUp: 'previous message',
    open: 'open',
    back: 'back to the list',
    select: 'select',
    delete: 'delete',
    undo: 'undo delete',
    read: 'read or unread',
    search: 'search',
    newAddress: 'new address',
    copy: 'copy address',
    tabs: 'html, text, headers, source, parts',
    allMail: 'all mail',
    help: 'keyboard shortcuts',
  },
};
