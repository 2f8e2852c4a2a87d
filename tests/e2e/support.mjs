// A site to test against and a browser to do it with.
//
//   (nothing)                the mock
//   MAILROOM_E2E_BIN=path    starts that server on free ports with data of its own, and can kill and restart it
//   MAILROOM_E2E_URL=url     a server that is running, with MAILROOM_E2E_SMTP=host:port; it cannot be restarted

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launch } from './browser.mjs';
import { Mock } from './mock/server.mjs';
import { send } from './smtp.mjs';

/** @typedef {import('./mail.mjs').Mail} Mail */

/**
 * @typedef {object} Site
 * @property {string} url
 * @property {number} smtpPort
 * @property {(mail: Mail) => Promise<unknown>} deliver resolves when the server has taken it
 * @property {(() => Promise<unknown>)|null} kill as SIGKILL does; null where that is not ours to do
 * @property {() => Promise<unknown>} revive
 * @property {() => Promise<unknown>} end
 */

const { MAILROOM_E2E_BIN: binary, MAILROOM_E2E_URL: running, MAILROOM_E2E_SMTP: smtp = '127.0.0.1:2525' } = process.env;

export const isMock = !binary && !running;
export const isOurs = !running;

/** @param {{access?: 'open'|'token'}} [settings] what a server that is running does not change @returns {Promise<Site>} */
export async function startSite({ access = 'open' } = {}) {
  if (running) return runningSite(running);
  return binary ? binarySite(binary, access) : mockSite(Object.assign(new Mock(), { access }));
}

/** @param {Mock} mock @returns {Promise<Site>} */
export async function mockSite(mock) {
  await mock.start();
  return {
    url: mock.url,
    smtpPort: mock.smtpPort,
    deliver: async (mail) => mock.deliver(mail),
    kill: () => mock.stop(),
    revive: () => mock.start(),
    end: () => mock.stop(),
  };
}

/** @param {string} url @returns {Site} */
function runningSite(url) {
  const [host = '127.0.0.1', port = '2525'] = smtp.split(':');
  const nothing = async () => {};
  return { url, smtpPort: Number(port), deliver: (mail) => send({ host, port: Number(port) }, mail), kill: null, revive: nothing, end: nothing };
}

/** @param {string} program @param {string} access @returns {Promise<Site>} */
async function binarySite(program, access) {
  const data = await mkdtemp(join(tmpdir(), 'mailroom-e2e-'));
  const [smtpPort, httpPort, opsPort] = await Promise.all([freePort(), freePort(), freePort()]);
  const url = `http://127.0.0.1:${httpPort}/`;
  const args = ['serve', '--data', data, '--smtp', `127.0.0.1:${smtpPort}`, '--http', `127.0.0.1:${httpPort}`, '--ops', `127.0.0.1:${opsPort}`];
  /** @type {import('node:child_process').ChildProcess|null} */
  let child = null;
  const revive = async () => {
    child = spawn(program, args, { stdio: 'ignore', env: { ...process.env, MAILROOM__MAILBOXES__ACCESS: access } });
    await answers(url);
  };
  const kill = async () => {
    const gone = new Promise((resolve) => child?.once('exit', resolve));
    child?.kill('SIGKILL');
    await gone;
  };
  await revive();
  const end = async () => {
    await kill();
    await rm(data, { recursive: true });
  };
  return { url, smtpPort: smtpPort ?? 0, deliver: (mail) => send({ host: '127.0.0.1', port: smtpPort ?? 0 }, mail), kill, revive, end };
}

/** @returns {Promise<number>} */
const freePort = () =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });

/** @param {string} url */
async function answers(url) {
  for (const end = Date.now() + 20_000; Date.now() < end; ) {
    if (await fetch(`${url}v1/domains`).then((response) => response.ok, () => false)) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`no answer from ${url}`);
}

let addresses = 0;
const run = Date.now().toString(36);

/** An address that no other test uses. */
export const newAddress = () => `t${run}-${process.pid}-${(addresses += 1)}@example.com`;

/** @type {Promise<import('playwright-core').Browser>|null} */
let browser = null;

/**
 * A page in a context of its own. What the page complains about is collected; `errors` without what the test did on purpose.
 * @param {import('playwright-core').BrowserContextOptions} [options]
 */
export async function newPage(options) {
  browser ??= launch();
  const context = await (await browser).newContext({ viewport: { width: 1360, height: 800 }, locale: 'en-GB', permissions: ['clipboard-read', 'clipboard-write'], ...options });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  /** @type {string[]} */
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  return { page, context, errors };
}

export async function closeBrowser() {
  await (await browser)?.close();
  browser = null;
}

/** @param {import('playwright-core').Page} page @param {string} text */
export const row = (page, text) => page.locator('.row').filter({ hasText: text });

/** @param {import('playwright-core').Page} page */
export const untilLive = (page) => page.locator('.status.live').waitFor();

/** @param {string} base @param {string} address */
export const mailboxUrl = (base, address) => `${base}#/in/${address}`;

/** Tries until the check holds, at most ten seconds. @param {() => Promise<unknown>} check */
export async function eventually(check) {
  for (const end = Date.now() + 10_000; ;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
