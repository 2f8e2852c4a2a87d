// The server's side of a WebSocket (RFC 6455), as much as the mock needs: text frames, ping, close.

import { createHash } from 'node:crypto';

const MAGIC = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const [TEXT, CLOSE, PING, PONG] = [1, 8, 9, 10];

export class Socket {
  /** @type {(text: string) => void} */
  onText = () => {};
  #buffer = Buffer.alloc(0);

  /**
   * @param {import('node:http').IncomingMessage} request
   * @param {import('node:stream').Duplex} stream
   */
  constructor(request, stream) {
    this.stream = stream;
    const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}${MAGIC}`).digest('base64');
    stream.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    stream.on('data', (/** @type {Buffer} */ data) => {
      this.#buffer = Buffer.concat([this.#buffer, data]);
      while (this.#readFrame());
    });
    stream.on('error', () => {});
  }

  #readFrame() {
    const buffer = this.#buffer;
    if (buffer.length < 2) return false;
    const opcode = (buffer[0] ?? 0) & 15;
    let length = (buffer[1] ?? 0) & 127;
    let at = 2;
    if (length === 126) [length, at] = [buffer.length >= 4 ? buffer.readUInt16BE(2) : Infinity, 4];
    else if (length === 127) [length, at] = [buffer.length >= 10 ? Number(buffer.readBigUInt64BE(2)) : Infinity, 10];
    if (buffer.length < at + 4 + length) return false;
    const mask = buffer.subarray(at, at + 4);
    const payload = Buffer.from(buffer.subarray(at + 4, at + 4 + length)).map((byte, i) => byte ^ (mask[i % 4] ?? 0));
    this.#buffer = buffer.subarray(at + 4 + length);
    if (opcode === TEXT) this.onText(Buffer.from(payload).toString());
    else if (opcode === PING) this.#write(PONG, Buffer.from(payload));
    else if (opcode === CLOSE) this.stream.end();
    return true;
  }

  /** @param {number} opcode @param {Buffer} payload */
  #write(opcode, payload) {
    const head =
      payload.length < 126
        ? Buffer.from([128 | opcode, payload.length])
        : payload.length < 65_536
          ? Buffer.from([128 | opcode, 126, payload.length >> 8, payload.length & 255])
          : Buffer.concat([Buffer.from([128 | opcode, 127, 0, 0, 0, 0]), Buffer.from(new Uint32Array([payload.length]).buffer).reverse()]);
    if (this.stream.writable) this.stream.write(Buffer.concat([head, payload]));
  }

  /** @param {object} frame */
  send(frame) {
    this.#write(TEXT, Buffer.from(JSON.stringify(frame)));
  }

  /** @param {number} code */
  close(code) {
    this.#write(CLOSE, Buffer.from([code >> 8, code & 255]));
    this.stream.end();
  }
}
