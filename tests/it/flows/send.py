"""Sends mail with Python's smtplib and says what it sent: one JSON object a line, {"to": [...], "hex": the message's bytes,
"refused": {recipient: code}}. Arguments: host and port. A failure is a traceback and a status other than 0."""

import json
import smtplib
import sys
from email import policy
from email.message import EmailMessage
from email.mime.text import MIMEText


class Recording(smtplib.SMTP):
    """Knows the bytes that went after DATA, before dots are doubled."""

    def data(self, message):
        self.sent = message if isinstance(message, bytes) else message.encode("ascii")
        return super().data(message)


def say(smtp, to, refused):
    codes = {recipient: answer[0] for recipient, answer in refused.items()}
    print(json.dumps({"to": to, "hex": smtp.sent.hex(), "refused": codes}))


def with_attachments(to):
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = "Ann <ann@sender.test>"
    message["To"] = to
    message["Subject"] = "With attachments, für alle"
    message.set_content("The text: grüße.\n.\n..dots\n", cte="8bit")
    message.add_alternative("<p>The text: <b>grüße</b>.</p>", subtype="html")
    message.add_attachment(bytes(range(256)) * 40, maintype="application", subtype="octet-stream", filename="all.bin")
    message.add_attachment("a;b\n1;2\n", subtype="csv", filename="übersicht.csv")
    return message


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    with Recording(host, port, local_hostname="client.test", timeout=30) as smtp:
        smtp.ehlo()
        for extension in ("pipelining", "size", "8bitmime", "enhancedstatuscodes", "smtputf8"):
            assert smtp.has_extn(extension), extension

        # Text with LF line ends, dots at the start of lines, and no end of line at the end.
        to = ["plain@example.com"]
        say(smtp, to, smtp.sendmail("ann@sender.test", to, "Subject: plain\n\n.\n..two\n.x\nlast line"))

        # Several recipients, two of which are one mailbox.
        to = ["first@example.com", "second@example.com", "Second+tag@Example.COM"]
        say(smtp, to, smtp.sendmail("ann@sender.test", to, MIMEText("to several").as_string()))

        message = with_attachments("attachments@example.com")
        say(smtp, ["attachments@example.com"], smtp.send_message(message, mail_options=["BODY=8BITMIME"]))

        # A bounce.
        to = ["bounce@example.com"]
        say(smtp, to, smtp.sendmail("", to, "Subject: Undelivered\n\nYour message could not be delivered."))

        # Addresses and headers beyond ASCII; smtplib asks for SMTPUTF8 by itself.
        message = EmailMessage(policy=policy.SMTPUTF8)
        message["From"] = "Иван <иван@пример.test>"
        message["To"] = "用户@例子.test"
        message["Subject"] = "Привет, 用户"
        message.set_content("Здравствуйте")
        say(smtp, ["用户@例子.test"], smtp.send_message(message))

        # More recipients than one transaction takes: smtplib reports those that were refused.
        to = [f"many{n}@example.com" for n in range(12)]
        say(smtp, to, smtp.sendmail("ann@sender.test", to, "Subject: many\n\ntext"))

        # Large, with a line of 100,000 octets in it.
        to = ["large@example.com"]
        large = "Subject: large\n\n" + "0123456789\n" * 200_000 + "x" * 100_000 + "\n"
        say(smtp, to, smtp.sendmail("ann@sender.test", to, large))

        # A line of 2,000,000, and LF line ends, which smtplib leaves in bytes: refused at the dot, and the session goes on.
        for refused in ("Subject: too long\n\n" + "x" * 2_000_000, b"Subject: bare\n\ntext\n"):
            try:
                smtp.sendmail("ann@sender.test", to, refused)
            except smtplib.SMTPDataError as error:
                assert (error.smtp_code, error.smtp_error[:5]) == (550, b"5.6.0"), error
            else:
                raise AssertionError("it was taken")
        assert smtp.noop()[0] == 250
        assert smtp.rset()[0] == 250
        assert smtp.verify("plain@example.com")[0] == 252
        to = ["last@example.com"]
        say(smtp, to, smtp.sendmail("ann@sender.test", to, "Subject: last\n\nafter all that"))


main()
