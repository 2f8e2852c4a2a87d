// The mock by itself: `node mock/main.mjs [port] [messages]`, then open the printed address.

import { addSamples } from './samples.mjs';
import { Mock } from './server.mjs';

const [port = '8099', more = '0'] = process.argv.slice(2);
const mock = new Mock();
if (Number(more)) mock.fill('load@example.com', Number(more));
addSamples(mock);
await mock.start(Number(port));
console.log(`The mock is at ${mock.url}`);
