// Sends one message over SMTP (RFC 5321), which is all the tests need of it.

import { connect } from 'node:net';
import { splitParty, write } from './mail.mjs';

/**
 * @param {{host: string, port: number}} server
 * @param {import('./mail.mjs').Mail} mail
 */
export async function send({ host, port }, mail) {
  const socket = connect(port, host);
  socket.setEncoding('utf8');
  const replies = readReplies(socket);
  /** @param {string} line @param {number} wanted the class of the reply */
  const say = async (line, wanted) => {
    if (line) socket.write(`${line}\r\n`);
    const { value: reply = 'nothing' } = await replies.next();
    if (Number(reply[0]) !== wanted) throw new Error(`${line.slice(0, 80)}: ${reply}`);
  };
  await say('', 2);
  await say('EHLO client.example.org', 2);
  await say(`MAIL FROM:<${splitParty(mail.from ?? 'sender@example.org').address}>`, 2);
  await say(`RCPT TO:<${mail.to}>`, 2);
  await say('DATA', 3);
  await say(`${write(mail).raw.replace(/^\./gm, '..')}.`, 2);
  await say('QUIT', 2);
  socket.end();
}

/** Whole replies, several lines as one. @param {import('node:net').Socket} socket */
async function* readReplies(socket) {
  let buffer = '';
  for await (const chunk of socket) {
    buffer += chunk;
    for (let end = /^\d{3}(?: .*)?\r\n/m.exec(buffer); end; end = /^\d{3}(?: .*)?\r\n/m.exec(buffer)) {
      const length = end.index + end[0].length;
      yield buffer.slice(0, length).trim();
      buffer = buffer.slice(length);
    }
  }
}
