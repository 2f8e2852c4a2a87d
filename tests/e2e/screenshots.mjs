// Pictures of every state of the page, from the mock: `node screenshots.mjs [folder]`. To look at, not to compare.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { launch } from './browser.mjs';
import { addSamples } from './mock/samples.mjs';
import { Mock } from './mock/server.mjs';

const folder = process.argv[2] ?? 'screenshots';
const only = process.argv[3] ?? '';
mkdirSync(folder, { recursive: true });

const browser = await launch();

/**
 * @typedef {import('playwright-core').Page} Page
 * @typedef {{width?: number, height?: number, dark?: boolean, locale?: string, prepare?: (mock: Mock) => void}} Setting
 */

/** @param {string} name @param {Setting} setting @param {(page: Page, mock: Mock) => Promise<unknown>} [act] */
async function shoot(name, { width = 1360, height = 800, dark = false, locale = 'en-GB', prepare = addSamples }, act) {
  if (only && !name.includes(only)) return;
  const mock = new Mock();
  prepare(mock);
  await mock.start(0);
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? 'dark' : 'light', locale });
  const page = await context.newPage();
  page.on('console', (message) => message.type() === 'error' && console.log(name, message.text()));
  page.on('pageerror', (error) => console.log(name, error.message));
  try {
    await page.goto(mock.url);
    await page.locator('.list-scroll .row:not(.skeleton), .welcome, .empty-list, .silent, dialog').filter({ visible: true }).first().waitFor({ timeout: 5_000 });
    await act?.(page, mock);
    await page.waitForTimeout(350);
    await page.screenshot({ path: join(folder, `${name}.png`) });
  } catch (error) {
    console.log(name, 'failed:', error);
  }
  await context.close();
  await mock.stop();
}

/** @param {string} subject */
const open = (subject) => async (/** @type {Page} */ page) => {
  await page.getByRole('listitem').filter({ hasText: subject }).locator('a').click();
  await page.waitForSelector('#tab-panel');
};
/** @param {string} subject @param {string} tab */
const openTab = (subject, tab) => async (/** @type {Page} */ page) => {
  await open(subject)(page);
  await page.getByRole('tab', { name: tab }).click();
};
const nothing = () => {};
const phone = { width: 360, height: 740 };

await shoot('first-visit', { prepare: nothing });
await shoot('first-visit-dark', { prepare: nothing, dark: true });
await shoot('first-visit-phone', { prepare: nothing, ...phone });
await shoot('waiting', { prepare: (mock) => void mock.box('amber-fox-104@mailroom.test') }, (page) => page.getByText('amber-fox-104').first().click());
await shoot('list', {});
await shoot('list-dark', { dark: true });
await shoot('message-html', {}, open('Your order'));
await shoot('message-html-dark', { dark: true }, open('Your order'));
await shoot('message-html-phone-width', {}, async (page) => {
  await open('Your order')(page);
  await page.getByRole('button', { name: 'Phone width' }).click();
});
await shoot('message-text', {}, open('Code 482913'));
await shoot('message-text-dark', { dark: true }, open('Fix the flaky'));
await shoot('message-links', {}, async (page) => {
  await open('Fix the flaky')(page);
  await page.getByRole('button', { name: '1 link' }).click();
});
await shoot('message-headers', {}, openTab('Your order', 'Headers'));
await shoot('message-source', {}, async (page) => {
  await openTab('Your order', 'Source')(page);
  await page.getByPlaceholder('Find in source').fill('content');
});
await shoot('message-parts', {}, async (page) => {
  await openTab('Invitation', 'Parts')(page);
  await page.getByRole('button', { name: 'invite.ics' }).first().click();
});
await shoot('message-parts-image', { dark: true }, async (page) => {
  await openTab('Your order', 'Parts')(page);
  await page.getByRole('button', { name: 'label.bmp' }).first().click();
});
await shoot('search', {}, async (page) => {
  await page.getByRole('searchbox').fill('code');
  await page.waitForTimeout(500);
});
await shoot('search-nothing', {}, async (page) => {
  await page.getByRole('searchbox').fill('from:nobody');
  await page.waitForTimeout(500);
});
await shoot('search-phone', phone, async (page) => {
  await page.getByRole('searchbox').fill('foo:bar');
  await page.waitForTimeout(500);
});
await shoot('empty-all', {}, (page) => page.locator('.open-mailbox').getByText('Empty').click());
await shoot('selection', {}, async (page) => {
  for (const i of [0, 1, 3]) await page.locator('.row .check').nth(i).click();
});
await shoot('undo', {}, async (page) => {
  await open('Your order')(page);
  await page.keyboard.press('#');
});
await shoot('shortcuts', {}, (page) => page.keyboard.press('?'));
await shoot('shortcuts-dark', { dark: true }, (page) => page.keyboard.press('?'));
await shoot('settings', {}, (page) => page.getByLabel('Settings').click());
await shoot('new-address', {}, (page) => page.keyboard.press('n'));
await shoot('mailbox', {}, (page) => page.locator('.mailbox', { hasText: 'hello' }).click());
await shoot('delete-mailbox', {}, async (page) => {
  await page.locator('.mailbox', { hasText: 'hello' }).click();
  await page.locator('.open-mailbox').getByText('Delete').click();
});
await shoot('new-pill', { prepare: (mock) => { mock.fill('load@example.com', 300); addSamples(mock); } }, async (page, mock) => {
  await page.locator('.list-scroll').evaluate((element) => element.scrollTo(0, 1_500));
  await page.waitForTimeout(200);
  for (const i of [1, 2, 3]) mock.deliver({ to: 'hello@example.com', subject: `New ${i}` });
});
await shoot('reconnecting', {}, async (page, mock) => {
  await page.waitForSelector('.status.live');
  await mock.stop();
  await page.waitForSelector('.strip', { timeout: 10_000 });
});
await shoot('offline', {}, async (page) => {
  await page.waitForSelector('.status.live');
  await page.context().setOffline(true);
  await page.waitForTimeout(1_000);
});
await shoot('error', { prepare: (mock) => { addSamples(mock); mock.failWith = 500; } });
await shoot('token', { prepare: (mock) => { addSamples(mock); mock.access = 'token'; } }, (page) => page.evaluate(() => { location.hash = '#/in/hello@example.com'; }));
const tokenMode = (/** @type {Mock} */ mock) => { mock.access = 'token'; };
await shoot('token-none', { prepare: tokenMode });
await shoot('token-none-phone', { prepare: tokenMode, ...phone, dark: true });
await shoot('token-waiting', { prepare: tokenMode }, async (page) => {
  await page.locator('.address-form.welcome input').press('Enter');
  await page.getByText('Waiting for mail').waitFor();
});
await shoot('silent', { prepare: (mock) => { mock.failWith = 500; } });
await shoot('chinese', { locale: 'zh-CN' }, async (page) => {
  await page.getByRole('listitem').filter({ hasText: '739204' }).locator('a').click();
});
await shoot('chinese-first-visit', { locale: 'zh-CN', prepare: nothing });
await shoot('tablet-list', { width: 768, height: 900 });
await shoot('tablet-message', { width: 768, height: 900 }, open('Your order'));
await shoot('phone-list', phone);
await shoot('phone-list-dark', { ...phone, dark: true });
await shoot('phone-message', phone, open('Your order'));
await shoot('phone-message-dark', { ...phone, dark: true }, open('Your order'));
await shoot('phone-headers', phone, openTab('Your order', 'Headers'));
await shoot('phone-drawer', phone, (page) => page.getByRole('button', { name: 'Mailboxes' }).click());
await shoot('loading', { prepare: (mock) => { addSamples(mock); } }, async (page, mock) => {
  mock.delayMs = 3_000;
  await page.locator('.mailbox', { hasText: 'qa-17' }).click();
  await page.waitForTimeout(500);
});

await browser.close();
