// What only the mock can be told to do: fail, be slow, lose its history, ask for tokens, hold 100,000 messages.

import assert from 'node:assert/strict';
import { after, afterEach, describe, test } from 'node:test';
import { Mock } from './mock/server.mjs';
import { closeBrowser, mailboxUrl, mockSite, newPage, row, untilLive } from './support.mjs';

const BOX = 'box@example.com';

describe('faults', () => {
  /** @type {Mock[]} */
  const mocks = [];
  afterEach(async () => {
    for (const mock of mocks.splice(0)) await mock.stop();
  });
  after(closeBrowser);

  /** @param {(mock: Mock) => void} [prepare] @param {string} [path] @param {import('playwright-core').BrowserContextOptions} [options] */
  async function open(prepare = () => {}, path = '', options) {
    const mock = new Mock();
    prepare(mock);
    await mockSite(mock);
    mocks.push(mock);
    const opened = await newPage(options);
    await opened.page.goto(mock.url + path);
    return { ...opened, mock };
  }

  /** @param {import('playwright-core').Page} page */
  const subjects = (page) => page.locator('.row .subject').allInnerTexts();

  test('first visit offers an address and the lines that send to it', async () => {
    const { page } = await open();
    await page.getByText('No mail yet').waitFor();
    await page.locator('.address-form.welcome input:focus').waitFor();
    await page.getByText('swaks --to hello@mailroom.test --server 127.0.0.1:10025').waitFor();
    await page.locator('.snippet').filter({ hasText: 'curl' }).getByRole('button').click();
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /curl smtp:\/\/127\.0\.0\.1:10025 /);
    assert.equal(await page.locator('.snippet').count(), 3);
    await page.locator('.address-form.welcome input').press('Enter');
    await page.getByText('Waiting for mail').waitFor();
  });

  test('view equals the store after the socket was cut', async () => {
    const { page, mock } = await open((each) => { for (const subject of ['One', 'Two', 'Three']) each.deliver({ to: BOX, subject }); });
    await untilLive(page);
    await row(page, 'Three').waitFor();
    mock.dropSockets();
    const [first] = mock.box(BOX).messages;
    mock.delete(BOX, first?.summary.id);
    mock.deliver({ to: BOX, subject: 'Four' });
    mock.deliver({ to: 'other@example.com', subject: 'Five' });
    await row(page, 'Five').waitFor();
    assert.deepEqual(await subjects(page), ['Five', 'Four', 'Three', 'Two']);
    mock.expire(BOX, 3);
    await row(page, 'Two').waitFor({ state: 'detached' });
    assert.deepEqual(await subjects(page), ['Five', 'Four']);
  });

  test('view equals the store after a reset', async () => {
    const { page, mock } = await open((each) => void each.deliver({ to: BOX, subject: 'Lost with the backup' }));
    await untilLive(page);
    await row(page, 'Lost').waitFor();
    await mock.stop();
    mock.startNewLineage();
    mock.boxes.clear();
    mock.fill(BOX, 2);
    await mock.start();
    await row(page, 'Message number 2').waitFor();
    assert.deepEqual(await subjects(page), ['Message number 2', 'Message number 1']);
    mock.deliver({ to: BOX, subject: 'And on' });
    await row(page, 'And on').waitFor({ timeout: 1_000 });
  });

  test('a mailbox opened first misses nothing either', async () => {
    const { page, mock } = await open((each) => { each.delayMs = 150; each.fill(BOX, 3); }, `#/in/${BOX}`);
    for (let i = 0; i < 20; i += 1) {
      mock.deliver({ to: BOX, subject: `Early ${i}` });
      await page.waitForTimeout(25);
    }
    await page.waitForFunction(() => document.querySelectorAll('.row:not(.skeleton)').length >= 10);
    await page.waitForFunction(() => document.querySelector('.total')?.textContent?.startsWith('23 messages'));
  });

  test('says in a sentence that the server is away, and comes back by itself', async () => {
    const { page, mock } = await open((each) => void each.deliver({ to: BOX, subject: 'Here' }));
    await untilLive(page);
    await mock.stop();
    await page.getByText(/reconnecting in \d+.s/).waitFor();
    await page.getByText('The server is not answering. Trying again').waitFor({ timeout: 10_000 });
    await row(page, 'Here').waitFor();
    await mock.start();
    await page.getByRole('button', { name: 'Try now' }).click();
    await untilLive(page);
    await page.getByText('The server is not answering').waitFor({ state: 'detached' });
  });

  test('is offline with the network, and back at once', async () => {
    const { page, context } = await open();
    await untilLive(page);
    await context.setOffline(true);
    await page.locator('.status.offline').getByText('offline').waitFor();
    await context.setOffline(false);
    await page.locator('.status.live').waitFor({ timeout: 1_500 });
  });

  test('a server that does not say what it is gets no guesses', async () => {
    const { page, mock } = await open((each) => { each.failWith = 500; each.failOn = /server$/; each.fill(BOX, 1); });
    await page.getByText('Something went wrong on the server').waitFor();
    assert.equal(await page.locator('.sidebar, .status, .row').count(), 0);
    mock.failWith = 0;
    await row(page, 'Message number 1').waitFor({ timeout: 8_000 });
    await untilLive(page);
    await page.getByText('Something went wrong on the server').waitFor({ state: 'detached' });
  });

  test('a server without SMTP has no lines to send to it', async () => {
    const { page } = await open((each) => { each.smtpPort = 0; });
    await page.getByText('No mail yet').waitFor();
    assert.equal(await page.locator('.snippet').count(), 0);
  });

  test('an error is a sentence and a way on', async () => {
    const { page, mock } = await open((each) => { each.failWith = 500; each.failOn = /messages$/; each.fill(BOX, 1); });
    await untilLive(page);
    await page.getByText('Something went wrong on the server').waitFor();
    await page.waitForTimeout(300);
    mock.failWith = 0;
    await page.getByRole('button', { name: 'Try again' }).click();
    await row(page, 'Message number 1').locator('a').click();
    await page.getByRole('tab', { name: 'Text' }).waitFor();
    mock.failWith = 503;
    mock.failOn = /^/;
    await page.keyboard.press('r');
    await page.locator('.row:not(.unread)').waitFor();
  });

  test('a message that is gone says so', async () => {
    const { page } = await open((each) => each.fill(BOX, 1), `#/in/${BOX}/0199nothing`);
    await page.getByText('no longer there').waitFor();
    await page.locator('.message').getByRole('button', { name: 'Back' }).click();
    await row(page, 'Message number 1').waitFor();
  });

  test('a message that is deleted elsewhere closes', async () => {
    const { page, mock } = await open((each) => void each.deliver({ to: BOX, subject: 'Brief' }));
    await untilLive(page);
    await row(page, 'Brief').locator('a').click();
    await page.getByRole('heading', { name: 'Brief' }).waitFor();
    mock.delete(BOX, mock.box(BOX).messages[0]?.summary.id);
    await page.locator('.message').waitFor({ state: 'detached' });
  });

  test('asks for a token where the server does, and keeps it', async () => {
    const { page, mock } = await open((each) => { each.access = 'token'; each.fill(BOX, 2); }, `#/in/${BOX}`);
    await page.getByRole('dialog').getByLabel('Token').fill('wrong');
    await page.keyboard.press('Enter');
    await page.getByText('No mailbox of this address opens with this token').waitFor();
    await page.getByRole('dialog').getByLabel('Token').fill(mock.box(BOX).token);
    await page.keyboard.press('Enter');
    await row(page, 'Message number 2').waitFor();
    await untilLive(page);
    mock.deliver({ to: BOX, subject: 'Rich', html: '<p>in the frame</p>' });
    await row(page, 'Rich').waitFor({ timeout: 1_000 });
    await row(page, 'Rich').locator('a').click();
    await page.frameLocator('.stage iframe').getByText('in the frame').waitFor();
    await page.reload();
    await page.frameLocator('.stage iframe').getByText('in the frame').waitFor();
    assert.equal(page.url().includes('token'), false);
  });

  test('a mailbox made here opens with the token it came with', async () => {
    const { page, mock } = await open((each) => { each.access = 'token'; });
    await page.locator('.address-form.welcome input').fill('mine');
    await page.keyboard.press('Enter');
    await page.getByText('Waiting for mail').waitFor();
    await untilLive(page);
    mock.deliver({ to: 'mine@mailroom.test', subject: 'Private' });
    await row(page, 'Private').waitFor({ timeout: 1_000 });
  });

  test('scrolls a list of 100,000, to its very end', { timeout: 120_000 }, async (t) => {
    const { page } = await open((each) => each.fill('load@example.com', 100_000));
    await row(page, 'Message number 100000').waitFor();
    await page.waitForFunction(() => document.querySelector('.total')?.textContent?.startsWith('100,000 messages'));
    const list = page.locator('.list-scroll');
    const frames = await list.evaluate(async (element) => {
      /** @type {number[]} */
      const times = [];
      let last = performance.now();
      for (let i = 0; i < 150; i += 1) {
        element.scrollTop += 120;
        await new Promise(requestAnimationFrame);
        times.push(performance.now() - last);
        last = performance.now();
      }
      return times.sort((a, b) => a - b);
    });
    t.diagnostic(`a frame takes ${frames[75]?.toFixed(1)} ms (median), ${frames[142]?.toFixed(1)} ms (95th)`);
    assert.ok((frames[75] ?? 99) < 25, `median frame ${frames[75]} ms`);
    assert.ok((await page.locator('.row').count()) < 60, 'only rows in sight are in the document');
    const start = Date.now();
    await list.evaluate((element) => element.scrollTo(0, element.scrollHeight));
    await page.getByText('Message number 1', { exact: true }).waitFor({ timeout: 90_000 });
    t.diagnostic(`reading all of it took ${Date.now() - start} ms`);
    await list.evaluate((element) => element.scrollTo(0, 0));
    await row(page, 'Message number 100000').waitFor();
  });

  test('keeps its place when mail arrives, and says how much', async () => {
    const { page, mock } = await open((each) => each.fill(BOX, 500));
    await untilLive(page);
    await page.locator('.list-scroll').evaluate((element) => element.scrollTo(0, 3_000));
    await row(page, 'Message number 455').waitFor();
    const top = () => row(page, 'Message number 455').evaluate((element) => Math.round(element.getBoundingClientRect().top));
    const before = await top();
    for (let i = 1; i <= 3; i += 1) mock.deliver({ to: BOX, subject: `Late ${i}` });
    await page.getByRole('button', { name: '3 new' }).waitFor();
    assert.equal(await top(), before);
    await page.getByRole('button', { name: '3 new' }).click();
    await row(page, 'Late 3').waitFor();
    await page.locator('.pill').waitFor({ state: 'detached' });
  });

  test('stays quick while 2,000 messages arrive at once', async () => {
    const { page, mock } = await open((each) => each.fill(BOX, 1_000));
    await untilLive(page);
    for (let i = 1; i <= 2_000; i += 1) mock.deliver({ to: BOX, subject: `Burst ${i}` });
    await row(page, 'Burst 2000').waitFor({ timeout: 3_000 });
    await page.waitForFunction(() => document.querySelector('.total')?.textContent?.startsWith('3,000 messages'));
  });

  test('counts unread in title and favicon', async () => {
    const { page, mock } = await open((each) => { for (const subject of ['One', 'Two']) each.deliver({ to: BOX, subject }); });
    await page.waitForFunction(() => document.title.startsWith('(2)'));
    assert.match((await page.locator('link[rel=icon]').getAttribute('href')) ?? '', /^data:.*%3E2%3C/);
    await untilLive(page);
    for (let i = 0; i < 12; i += 1) mock.deliver({ to: BOX });
    await page.waitForFunction(() => document.title.startsWith('(14)'));
    assert.match((await page.locator('link[rel=icon]').getAttribute('href')) ?? '', /^data:.*%3E9%2B%3C/);
  });

  test('notifies and sounds only when switched on', async () => {
    const { page, mock, context } = await open();
    await context.grantPermissions(['notifications', 'clipboard-read', 'clipboard-write']);
    await page.evaluate(() => {
      const shown = /** @type {string[]} */ ([]);
      const Fake = function (/** @type {string} */ title) { shown.push(title); };
      Object.assign(Fake, { permission: 'granted', requestPermission: async () => 'granted' });
      Object.assign(globalThis, { shown, Notification: Fake });
      Object.defineProperty(document, 'hasFocus', { value: () => false });
    });
    const shown = () => page.evaluate(() => /** @type {any} */ (globalThis).shown);
    await untilLive(page);
    mock.deliver({ to: BOX, from: 'Quiet <q@example.org>', subject: 'Quiet' });
    await page.waitForFunction(() => document.title.startsWith('(1)'));
    await page.waitForTimeout(300);
    assert.deepEqual(await shown(), []);
    await page.getByLabel('Settings').click();
    await page.getByLabel('Desktop notifications').check();
    mock.deliver({ to: BOX, from: 'Loud <l@example.org>', subject: 'Loud' });
    await page.waitForFunction(() => /** @type {any} */ (globalThis).shown.length === 1);
    assert.deepEqual(await shown(), ['Loud']);
  });

  test('calendar, contact and image parts are shown', async () => {
    const { addSamples } = await import('./mock/samples.mjs');
    const { page } = await open(addSamples);
    await row(page, 'Invitation').locator('a').click();
    await page.getByRole('tab', { name: 'Parts' }).click();
    await page.getByRole('button', { name: 'invite.ics' }).click();
    await page.getByRole('heading', { name: 'Design review, round three', exact: true }).waitFor();
    await page.getByText('Europe/Berlin').first().waitFor();
    await page.getByRole('button', { name: 'ada.vcf' }).click();
    await page.getByText('+49-30-1234567').waitFor();
    await row(page, 'Your order').locator('a').click();
    await page.getByRole('tab', { name: 'Parts' }).click();
    await page.getByRole('button', { name: 'invoice-88213.pdf' }).click();
    await page.locator('iframe.pdf[src^=blob]').waitFor();
    await page.getByRole('button', { name: 'label.bmp' }).click();
    await page.waitForFunction(() => /** @type {HTMLImageElement|null} */ (document.querySelector('img.preview'))?.naturalWidth === 320);
  });

  for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
    test(`text has contrast AA (${colorScheme})`, async () => {
      const { addSamples } = await import('./mock/samples.mjs');
      const { page } = await open(addSamples, '', { colorScheme });
      await untilLive(page);
      await page.locator('.row .check').nth(3).click();
      await row(page, 'Code 482913').locator('a').click();
      await page.locator('pre.text').waitFor();
      await page.waitForTimeout(400);
      assert.deepEqual(await page.evaluate(lowContrast), []);
    });
  }

  test('Chinese and English pages have no unfilled words', async () => {
    for (const locale of ['en-GB', 'zh-CN']) {
      const { page } = await open((each) => each.fill(BOX, 3), `#/in/${BOX}`, { locale });
      await row(page, 'Message number 3').locator('a').click();
      await page.getByRole('tab').nth(1).click();
      await page.keyboard.press('?');
      await page.getByRole('dialog').waitFor();
      const text = await page.locator('body').innerText();
      assert.equal(/undefined|null|\[object|NaN|=>/.test(text), false, text);
    }
  });

  test('opens at a link to a mailbox that has had no mail', async () => {
    const { page } = await open(() => {}, mailboxUrl('', 'nobody@example.com'));
    await page.getByText('Waiting for mail').waitFor();
    await page.getByText('swaks --to nobody@example.com').waitFor();
  });
});

/** Runs in the page: every text whose colour is too close to what is behind it (WCAG 1.4.3). */
function lowContrast() {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  /** @param {string} colour */
  const rgba = (colour) => {
    if (!canvas) return [0, 0, 0, 0];
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  /** @param {number[]} colour */
  const luminance = ([r = 0, g = 0, b = 0]) => {
    const [x = 0, y = 0, z = 0] = [r, g, b].map((value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  /** @param {Element|null} element @returns {number[]} */
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = rgba(getComputedStyle(each).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent?.trim() || !element?.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest('.sr, :disabled, style, script, noscript')) continue;
    const [front, back] = [luminance(rgba(getComputedStyle(element).color)), luminance(behind(element))];
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (ratio < 4.5) found.push(`${node.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return found;
}
