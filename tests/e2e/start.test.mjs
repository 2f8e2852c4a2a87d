// The start page tells the truth about the server, and is of use where mailboxes ask for tokens. Runs against the mock and
// against a server alike.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { closeBrowser, isMock, isOurs, newPage, row, startSite, untilLive } from './support.mjs';

const SECOND = 1_000;

for (const access of /** @type {const} */ (['open', 'token'])) {
  describe(`start page, ${access} mailboxes`, { skip: isOurs ? false : 'this server is not ours to start' }, () => {
    /** @type {import('./support.mjs').Site} */
    let site;
    before(async () => {
      site = await startSite({ access });
    });
    after(async () => {
      await closeBrowser();
      await site.end();
    });

    test('names the port that this server listens on, and its version', async () => {
      const { page, errors } = await newPage();
      await page.goto(site.url);
      const input = page.locator('.address-form.welcome input');
      await input.fill('port');
      await input.press('Enter');
      await page.getByText('Waiting for mail').waitFor();
      const [swaks = '', curl = '', mailer = ''] = await page.locator('.snippet pre').allInnerTexts();
      assert.match(swaks, new RegExp(`--to port@mailroom\\.test --server 127\\.0\\.0\\.1:${site.smtpPort}$`));
      assert.match(curl, new RegExp(`smtp://127\\.0\\.0\\.1:${site.smtpPort} .*--mail-rcpt port@mailroom\\.test`));
      assert.match(mailer, new RegExp(`MAIL_HOST=127\\.0\\.0\\.1\nMAIL_PORT=${site.smtpPort}\n`));
      await page.getByLabel('Settings', { exact: true }).click();
      assert.match(await page.locator('.version').innerText(), /Mailroom \d+\.\d+\.\d+/);
      assert.deepEqual(errors, []);
    });

    test('the API reference fits on a phone', { skip: isMock && 'the mock has none' }, async () => {
      const { page } = await newPage({ viewport: { width: 360, height: 740 } });
      await page.goto(`${site.url}docs`);
      await page.getByText('urn:mailroom:problem:bad-address').first().waitFor();
      const hanging = await page.locator('#overview :is(span, td, p, code)').evaluateAll((elements) =>
        elements.filter((element) => element.getBoundingClientRect().left < 0 || element.getBoundingClientRect().right > innerWidth).map(({ textContent }) => textContent));
      assert.deepEqual(hanging, []);
    });

    if (access === 'open') return;

    test('makes a mailbox, shows its mail, and its token opens it elsewhere', async () => {
      const { page, errors } = await newPage();
      await page.goto(site.url);
      await page.getByRole('heading', { name: 'Make a mailbox, or open one' }).waitFor();
      assert.equal(await page.locator('.skeleton').count(), 0, 'nothing waits for what never comes');
      assert.equal(await page.getByText('connecting').count(), 0);
      const input = page.locator('.address-form.welcome input');
      const name = await input.getAttribute('placeholder');
      await input.press('Enter');
      await page.getByText('Waiting for mail').waitFor();
      await untilLive(page);
      const to = `${name}@mailroom.test`;
      await site.deliver({ to, subject: 'Private', text: 'For one reader.' });
      await row(page, 'Private').waitFor({ timeout: SECOND });
      await page.locator('.open-mailbox').getByRole('button', { name: 'Copy token' }).click();
      const token = await page.evaluate(() => navigator.clipboard.readText());
      assert.ok(token.length > 8, token);
      assert.deepEqual(errors, []);

      const other = await newPage();
      await other.page.goto(site.url);
      const form = other.page.locator('.welcome .token-form');
      await form.getByLabel('Address').fill(to);
      await form.getByLabel('Token').fill('wrong');
      await form.getByRole('button', { name: 'Open' }).click();
      await other.page.getByText('No mailbox of this address opens with this token').waitFor();
      await form.getByLabel('Token').fill(token);
      await form.getByRole('button', { name: 'Open' }).click();
      await row(other.page, 'Private').locator('a').click();
      await other.page.getByText('For one reader.').last().waitFor();
      await untilLive(other.page);
      await other.page.reload();
      await row(other.page, 'Private').waitFor();
      await other.page.locator('.brand').click();
      await other.page.getByRole('heading', { name: 'Make a mailbox, or open one' }).waitFor();
    });

    test('a link to a mailbox asks for its token, and can be declined', async () => {
      const { page } = await newPage();
      await page.goto(`${site.url}#/in/somebody@mailroom.test`);
      await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
      await page.getByRole('heading', { name: 'Open somebody@mailroom.test with its token' }).waitFor();
      assert.equal(await page.locator('.row').count(), 0);
    });

    test('a mailbox that ended is forgotten', async () => {
      const { page } = await newPage();
      await page.goto(site.url);
      await page.evaluate(() => localStorage.setItem('mailroom.tokens', '{"ended@mailroom.test":"mrt_ended"}'));
      await page.reload();
      await page.getByRole('heading', { name: 'Make a mailbox, or open one' }).waitFor();
      assert.equal(await page.evaluate(() => localStorage.getItem('mailroom.tokens')), '{}');
    });
  });
}
