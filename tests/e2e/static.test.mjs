// The files of the page as they are served: size, origin of what is vendored, types, policy.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const STATIC = join(HERE, '../../static');
const MOST_BYTES = 60 * 1024;

const files = readdirSync(STATIC, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath, entry.name).slice(STATIC.length + 1));
/** The dashboard's; the page of the API reference is a part of its own. */
const served = files.filter((name) => /\.(html|css|js|svg)$/.test(name) && !/^(docs\.|vendor\/rapidoc)/.test(name));

/** @param {string} name */
const read = (name) => readFileSync(join(STATIC, name));

/** As the server sends it: our own code without the comments at the beginnings of lines. @param {string} name */
function sent(name) {
  const text = read(name).toString();
  return name.startsWith('vendor/') ? text : text.replace(/^[ \t]*(?:\/\*[\s\S]*?\*\/|\/\/.*)/gm, '');
}

test('the page is under 60 KB compressed, all of it', (t) => {
  const bytes = served.reduce((sum, name) => sum + gzipSync(sent(name)).length, 0);
  t.diagnostic(`${bytes} bytes in ${served.length} files`);
  assert.ok(bytes < MOST_BYTES, `${bytes} bytes`);
});

test('vendored files are those of the package', () => {
  const vendored = files.filter((name) => name.startsWith('vendor/lit-html/') && (name.endsWith('.js') || name.endsWith('LICENSE')));
  assert.equal(vendored.length, 2);
  for (const name of vendored) {
    assert.deepEqual(read(name), readFileSync(join(HERE, 'node_modules', name.slice('vendor/'.length))), name);
  }
  const { version } = JSON.parse(readFileSync(join(HERE, 'node_modules/lit-html/package.json'), 'utf8'));
  assert.ok(read('vendor/README.md').includes(`lit-html@${version}`));
});

test('types hold', () => {
  const tsc = join(HERE, 'node_modules/typescript/bin/tsc');
  for (const project of [STATIC, HERE]) execFileSync(process.execPath, [tsc, '-p', project], { stdio: ['ignore', 'inherit', 'inherit'] });
});

test('index.html announces every module, and has nothing inline', () => {
  const html = read('index.html').toString();
  for (const name of served.filter((each) => each.endsWith('.js'))) assert.ok(html.includes(`"${name}"`), name);
  for (const [, name = ''] of html.matchAll(/(?:href|src)="([^"]+\.(?:js|css|svg))"/g)) assert.ok(files.includes(name), name);
  assert.equal(/<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|<style/.test(html), false);
});

test('no view writes an inline style or handler', () => {
  for (const name of served.filter((each) => each.endsWith('.js') && !each.startsWith('vendor/'))) {
    assert.equal(/\sstyle=|\son(?:click|load|error|input)=/.test(read(name).toString()), false, name);
  }
});
