// The page's pure parts, without a browser: the list against a server's, texts, read-outs, routes.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MessageList, keyOf } from '../../static/messages.js';
import { format, parse } from '../../static/route.js';
import { calendar, contacts, linkPieces, matchPieces } from '../../static/text.js';

/** @import {MailEvent, Summary} from '../../static/types.js' */

/** Numbers that look random and are the same in each run. @param {number} seed */
function random(seed) {
  let state = seed;
  return (/** @type {number} */ below) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((state / 2_147_483_648) * below);
  };
}

/** A server's store, its events, and pages of it. */
class Store {
  /** @type {Summary[]} newest first */
  rows = [];
  /** @type {MailEvent[]} */
  events = [];
  #clock = 0;
  /** @type {Record<string, number>} */
  #uids = {};

  /** @param {string} mailbox */
  receive(mailbox) {
    const uid = (this.#uids[mailbox] = (this.#uids[mailbox] ?? 0) + 1);
    this.#clock += 1;
    const time = new Date(this.#clock * 1_000).toISOString();
    const message = { id: `id${String(this.#clock).padStart(6, '0')}`, uid, mailbox, from: null, to: [], subject: '', preview: '', date: time, received_at: time, expires_at: null, size: 1, attachments: 0, is_read: false, tags: [], codes: [] };
    this.rows.unshift(message);
    this.events.push({ type: 'message.received', mailbox, message });
  }

  /** @param {(below: number) => number} pick */
  change(pick) {
    const row = this.rows[pick(this.rows.length || 1)];
    const kind = pick(10);
    if (!row || kind < 5) return this.receive(pick(2) ? 'a@example.com' : 'b@example.com');
    const { mailbox, uid, id } = row;
    if (kind < 8) {
      const message = { ...row, is_read: !row.is_read };
      this.rows[this.rows.indexOf(row)] = message;
      this.events.push({ type: 'message.updated', mailbox, message });
    } else if (kind === 8) {
      this.rows = this.rows.filter((each) => each !== row);
      this.events.push({ type: 'message.deleted', mailbox, id, uid });
    } else if (pick(4)) {
      const through_uid = Math.max(0, uid - 20);
      this.rows = this.rows.filter((each) => each.mailbox !== mailbox || each.uid > through_uid);
      this.events.push({ type: 'messages.expired', mailbox, through_uid });
    } else {
      this.rows = this.rows.filter((each) => each.mailbox !== mailbox);
      this.events.push({ type: 'mailbox.deleted', mailbox });
    }
  }

  /** @param {string|null} mailbox @param {string|null} after */
  page(mailbox, after) {
    const rows = this.rows.filter((row) => mailbox === null || row.mailbox === mailbox);
    const items = rows.filter((row) => after === null || row.id < after).slice(0, 7);
    const last = items.at(-1);
    return { items, next: last && last !== rows.at(-1) ? last.id : null, cursor: null };
  }
}

describe('the list', () => {
  for (const mailbox of [null, 'a@example.com']) {
    test(`equals the store in any order of pages and events (${mailbox ?? 'all mail'})`, () => {
      for (let seed = 1; seed <= 300; seed += 1) {
        const pick = random(seed);
        const store = new Store();
        for (let i = 0; i < 20; i += 1) store.change(pick);
        const list = new MessageList(mailbox, '');
        // Events are heard from here on, late and some of them twice.
        let heard = store.events.length;
        /** @type {{page: ReturnType<Store['page']>, first: boolean}|null} */
        let pending = null;
        for (let step = 0; step < 120; step += 1) {
          const what = pick(4);
          if (what === 0) store.change(pick);
          else if (what === 1 && heard < store.events.length) {
            const again = pick(5) === 0 ? Math.min(3, heard) : 0;
            for (const event of store.events.slice(heard - again, heard + 1)) list.apply(event);
            heard += 1;
          } else if (what === 2 && !pending && list.next !== null) {
            list.beginPage();
            const first = !list.isLoaded;
            pending = { first, page: store.page(mailbox, first ? null : (list.next ?? null)) };
          } else if (what === 3 && pending) {
            list.endPage(pending.page, pending.first);
            pending = null;
          }
        }
        if (pending) list.endPage(pending.page, pending.first);
        for (const event of store.events.slice(heard)) list.apply(event);
        while (list.next !== null) {
          list.beginPage();
          list.endPage(store.page(mailbox, list.next ?? null), !list.isLoaded);
        }
        const wanted = store.rows.filter((row) => mailbox === null || row.mailbox === mailbox);
        assert.deepEqual(list.items.map(keyOf), wanted.map(keyOf), `seed ${seed}`);
        assert.deepEqual(list.items.map((row) => row.is_read), wanted.map((row) => row.is_read), `seed ${seed}`);
      }
    });
  }
});

test('all mail stands in the order of its events, whatever the times of receipt say', () => {
  const store = new Store();
  for (const mailbox of ['a@example.com', 'b@example.com', 'a@example.com']) store.receive(mailbox);
  const list = new MessageList(null, '');
  list.beginPage();
  list.endPage({ items: [], next: null, cursor: null }, true);
  const [first, second, third] = store.events;
  for (const event of [second, first, third]) if (event) list.apply(event);
  assert.deepEqual(list.items.map(({ id }) => id), ['id000003', 'id000001', 'id000002']);
});

describe('links', () => {
  for (const [text, links] of /** @type {[string, string[]][]} */ ([
    ['See https://example.org/a?b=1.', ['https://example.org/a?b=1']],
    ['(https://example.org/a_(b))', ['https://example.org/a_(b)']],
    ['<https://example.org/>, "http://b.example"', ['https://example.org/', 'http://b.example']],
    ['详见 https://example.cn/路径。谢谢', ['https://example.cn/路径。谢谢']],
    ['javascript:alert(1) data:text/html,x', []],
  ])) {
    test(text, () => {
      const pieces = linkPieces(text);
      assert.deepEqual(pieces.flatMap(({ href }) => href ?? []), links);
      assert.equal(pieces.map((piece) => piece.text).join(''), text);
    });
  }
});

test('matches keep the whole text, whatever is searched for', () => {
  const text = 'a.b A.B axb';
  const pieces = matchPieces(text, 'a.b', 10);
  assert.equal(pieces.map((piece) => piece.text).join(''), text);
  assert.equal(pieces.filter(({ isMatch }) => isMatch).length, 2);
  assert.equal(matchPieces(text, 'a', 1).filter(({ isMatch }) => isMatch).length, 1);
});

test('a route is what its URL says', () => {
  for (const route of [
    { mailbox: null, message: null, tab: null, q: '' },
    { mailbox: 'a+b@example.com', message: null, tab: null, q: 'from:x "two words" 100%' },
    { mailbox: 'x/y?z#@例子.example', message: { mailbox: 'x/y?z#@例子.example', id: '1' }, tab: /** @type {const} */ ('source'), q: '' },
  ]) {
    assert.deepEqual(parse(format(route)), route);
  }
  const inAll = { mailbox: null, message: { mailbox: 'a@b.c', id: '7' }, tab: null, q: 'x' };
  assert.equal(format(inAll), '#/all/a@b.c/7?q=x');
  assert.deepEqual(parse(format(inAll)), inAll);
  for (const hash of ['', '#', '#/', '#/nonsense', '#/in', '#/in/%E0%A4%A', '#/all/a', '#/in/a/b/nonsense?q']) parse(hash);
});

test('reads calendars, folded lines and alarms included', () => {
  const [event] = calendar(
    'BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Review\\, round\r\n  two\r\nDTSTART;TZID="Europe/Berlin":20261124T100000\r\nDTEND;VALUE=DATE:20261125\r\nORGANIZER;CN="Fischer: Ada":mailto:ada@example.org\r\nBEGIN:VALARM\r\nDESCRIPTION:alarm\r\nEND:VALARM\r\nEND:VEVENT\r\nEND:VCALENDAR',
  );
  assert.equal(event?.title, 'Review, round two');
  const fields = Object.fromEntries(event?.fields ?? []);
  assert.deepEqual(fields.start, { kind: 'date', value: new Date(Date.UTC(2026, 10, 24, 10)), wholeDay: false, zone: 'Europe/Berlin' });
  assert.equal(fields.end?.kind === 'date' && fields.end.wholeDay, true);
  assert.deepEqual(fields.organizer, { kind: 'text', value: 'Fischer: Ada <ada@example.org>' });
  assert.equal('description' in fields, false);
});

test('reads contact cards, grouped properties included', () => {
  const [card] = contacts('BEGIN:VCARD\nVERSION:3.0\nN:Fischer;Ada;;;\nitem1.EMAIL;TYPE=work:ada@example.org\nORG:Example;Design\nEND:VCARD');
  assert.equal(card?.title, 'Fischer Ada');
  assert.deepEqual(card?.fields, [
    ['email', { kind: 'text', value: 'ada@example.org' }],
    ['organization', { kind: 'text', value: 'Example, Design' }],
  ]);
  assert.deepEqual(contacts('not a card'), []);
});

// Each took minutes or for ever in some earlier form of these functions.
describe('hostile text takes no time', () => {
  const most = 900_000;
  /** @type {[string, (text: string) => unknown, string][]} */
  const hostile = [
    ['closing brackets', linkPieces, `http://a${')'.repeat(most)}`],
    ['both brackets', linkPieces, `http://a${'(])['.repeat(most / 4)}`],
    ['short links of brackets', linkPieces, `http://a${')'.repeat(8_000)} `.repeat(most / 8_009)],
    ['punctuation', linkPieces, `http://a${'.'.repeat(most)}`],
    ['many links', linkPieces, 'http://a.b/( '.repeat(most / 13)],
    ['links without an end', linkPieces, 'http://'.repeat(most / 7)],
    ['schemes', linkPieces, 'mailto:'.repeat(most / 7)],
    ['values without a colon', calendar, `A${';b=,,,,'.repeat(most / 7)}`],
    ['quotes without an end', calendar, `A${';b="'.repeat(most / 4)}`],
    ['values', calendar, `A;b=${'x,'.repeat(most / 2)}`],
    ['names', contacts, 'a'.repeat(most)],
    ['names of parameters', contacts, `A;${'a'.repeat(most)}`],
    ['groups', contacts, 'a.'.repeat(most / 2)],
    ['folds', calendar, '\r\n '.repeat(most / 3)],
    ['lines', calendar, 'BEGIN:VEVENT\n'.repeat(most / 13)],
    ['attendees', calendar, `BEGIN:VEVENT\n${'ATTENDEE:a\n'.repeat(most / 11)}`],
    ['dates', calendar, `BEGIN:VEVENT\nDTSTART:${'2'.repeat(most)}\n`],
    ['escapes', calendar, `BEGIN:VEVENT\nSUMMARY:${'\\'.repeat(most)}\n`],
    ['searched for', (text) => matchPieces(text, 'a'.repeat(100), 1_000), 'a'.repeat(most)],
  ];
  for (const [name, read, text] of hostile) {
    test(name, () => {
      const begun = process.cpuUsage();
      read(text);
      const { user, system } = process.cpuUsage(begun);
      assert.ok(user + system < 2_000_000, `${(user + system) / 1_000} ms`);
    });
  }
});

test('what is too long or too much is text, and none of it is lost', () => {
  const long = `see http://a.test/${'x'.repeat(9_000)} or http://b.test/.`;
  const pieces = linkPieces(long);
  assert.deepEqual(pieces.flatMap(({ href }) => href ?? []), ['http://b.test/']);
  assert.equal(pieces.map(({ text }) => text).join(''), long);
  const many = 'http://a.test/ '.repeat(3_000);
  assert.equal(linkPieces(many).filter(({ href }) => href).length, 1_000);
  assert.equal(linkPieces(many).map(({ text }) => text).join(''), many);
  assert.equal(calendar(`BEGIN:VEVENT\n${'ATTENDEE:a@b.test\n'.repeat(500)}END:VEVENT`)[0]?.fields.length, 100);
});

test('parameters are read as they are quoted', () => {
  const [event] = calendar('BEGIN:VEVENT\nORGANIZER;X=a,"b;c:d",e;CN="Fischer; Ada: x":mailto:ada@example.org\nBROKEN;CN\nSUMMARY;CN="x:y\nEND:VEVENT');
  assert.deepEqual(event, { title: '', fields: [['organizer', { kind: 'text', value: 'Fischer; Ada: x <ada@example.org>' }]] });
});
