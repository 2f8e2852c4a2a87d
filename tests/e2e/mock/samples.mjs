// Mail to look at while working on the page, one of each kind.

const MINUTE = 60_000;

/** A picture with something to see, as a BMP: the one format that is a header and pixels. @param {number} width @param {number} height */
function picture(width, height) {
  const file = Buffer.alloc(54 + width * height * 3);
  file.write('BM');
  file.writeUInt32LE(file.length, 2);
  file.writeUInt32LE(54, 10);
  file.writeUInt32LE(40, 14);
  file.writeInt32LE(width, 18);
  file.writeInt32LE(height, 22);
  file.set([1, 0, 24], 26);
  for (let i = 0; i < width * height; i += 1) {
    const [x, y] = [(i % width) / width, Math.floor(i / width) / height];
    file.set([200 - x * 90, 90 + y * 100, 40 + x * 160], 54 + i * 3);
  }
  return file;
}

const PICTURE = picture(320, 160);

const ORDER = `<div style="max-width:600px;margin:0 auto;font-family:Helvetica,Arial,sans-serif;color:#222">
<div style="background:#14532d;color:#fff;padding:28px 32px;border-radius:12px 12px 0 0"><h1 style="margin:0;font-size:22px">Your order is on its way</h1></div>
<div style="padding:24px 32px;border:1px solid #e5e7eb;border-top:0;border-radius:0 0 12px 12px"><p>Hello Kim,</p>
<p>your parcel left the warehouse this morning and should be with you on <b>Tuesday</b>.</p>
<table style="width:100%;border-collapse:collapse;margin:16px 0"><tr><td style="padding:8px 0;border-bottom:1px solid #eee">Linen shirt, M</td><td align="right" style="border-bottom:1px solid #eee">€ 49.00</td></tr>
<tr><td style="padding:8px 0;border-bottom:1px solid #eee">Canvas bag</td><td align="right" style="border-bottom:1px solid #eee">€ 19.50</td></tr><tr><td style="padding:8px 0"><b>Total</b></td><td align="right"><b>€ 68.50</b></td></tr></table>
<p><a href="https://shop.test/track/88213" style="display:inline-block;background:#14532d;color:#fff;padding:12px 20px;border-radius:8px;text-decoration:none">Track your parcel</a></p>
<img src="https://shop.test/pixel.gif" width="1" height="1" alt=""></div></div>`;

const ICS = `BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1@example.org\r\nSUMMARY:Design review\\, round three\r\nDTSTART;TZID=Europe/Berlin:20261124T100000\r\nDTEND;TZID=Europe/Berlin:20261124T104500\r\nLOCATION:Room 4\r\nORGANIZER;CN=Ada Fischer:mailto:ada@example.org\r\nATTENDEE;CN="Kim, Lee":mailto:kim@example.com\r\nDESCRIPTION:Agenda:\\n1. List\\n2. Mes\r\n sage\r\nBEGIN:VALARM\r\nDESCRIPTION:not this\r\nEND:VALARM\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n`;
const VCF = `BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Ada Fischer\r\nORG:Example;Design\r\nEMAIL;TYPE=work:ada@example.org\r\nTEL;VALUE=uri:tel:+49-30-1234567\r\nURL:https://example.org\r\nEND:VCARD\r\n`;

/** @type {[number, import('../mail.mjs').Mail][]} minutes ago, and the mail */
const SAMPLES = [
  [2, { to: 'hello@example.com', from: 'Shop <no-reply@shop.test>', subject: 'Your order is on its way', tags: ['staging', 'shop'], headers: { Cc: 'Returns <returns@shop.test>, archive@shop.test' }, text: 'Hello Kim,\n\nyour parcel left the warehouse this morning.\n\nTrack it: https://shop.test/track/88213\n', html: ORDER, attachments: [{ name: 'invoice-88213.pdf', type: 'application/pdf', content: Buffer.from('%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]>>endobj\ntrailer<</Root 1 0 R>>\n') }, { name: 'label.bmp', type: 'image/bmp', content: PICTURE }] }],
  [5, { to: 'hello@example.com', from: 'Bank <security@bank.test>', subject: 'Code 482913', text: 'Your verification code is 482913. It is valid for ten minutes. We never ask for it by phone.' }],
  [26, { to: 'qa-17@example.com', from: 'Ada Fischer <ada@example.org>', subject: 'Invitation: Design review, round three', text: 'Shall we meet on Tuesday?\n\n> On Monday you wrote:\n> let us look at it once more.\n\nAda', attachments: [{ name: 'invite.ics', type: 'text/calendar', content: ICS }, { name: 'ada.vcf', type: 'text/vcard', content: VCF }] }],
  [63, { to: 'hello@example.com', from: 'GitHub <noreply@github.test>', subject: '[example/app] Fix the flaky sign-in test (PR #1284)', text: 'kim-lee approved this pull request.\n\nView it: https://github.test/example/app/pull/1284', tags: ['ci'], isRead: true }],
  [190, { to: 'qa-17@example.com', from: '订阅服务 <service@example.cn>', subject: '您的验证码：739204', text: '您好，您的验证码是 739204，五分钟内有效。请勿告诉他人。' }],
  [420, { to: 'bounce@example.com', from: 'Mail Delivery System <mailer-daemon@mx.example.net>', subject: 'Undelivered Mail Returned to Sender', text: 'This is the mail system at host mx.example.net.\n\nI am sorry to have to inform you that your message could not be delivered.', isRead: true }],
  [1500, { to: 'qa-17@example.com', from: 'Newsletter <news@letters.test>', subject: 'What is new in November, and a subject line that goes on for much longer than any list has room for', html: '<h1>November</h1><p>Plain news in HTML only, with <a href="https://letters.test/nov">one link</a>.</p>', isRead: true }],
  [4400, { to: 'hello@example.com', from: 'ci@example.org', text: 'A message without a subject.', isRead: true }],
];

/** @param {import('./server.mjs').Mock} mock */
export function addSamples(mock) {
  for (const [minutes, mail] of [...SAMPLES].reverse()) mock.deliver(mail, new Date(Date.now() - minutes * MINUTE));
}
