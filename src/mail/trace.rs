//! The trace headers (RFC 5321 §4.4): `Received:` and `Return-Path:` that a session puts before a message, and how
//! many `Received:` a message already has, by which it sees a loop.
//!
//! A `Return-Path:` that the data already holds stays where it is, byte for byte; the one written here stands above
//! it and is the one that counts.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::time::Timestamp;

/// What a `Received:` header says.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The argument of HELO or EHLO as the client gave it; empty when it gave none.
    pub helo: &'a str,
    /// The host name of the client, if it was looked up and confirmed.
    pub client: Option<&'a str>,
    pub ip: IpAddr,
    /// The name this server goes by.
    pub by: &'a str,
    /// RFC 3848: `SMTP`, `ESMTP`, `UTF8SMTP`, …
    pub protocol: &'a str,
    /// The delivery's id, or the session's.
    pub id: &'a str,
    /// The recipient as written, only where there is a single one: others must not learn of each other.
    pub recipient: Option<&'a str>,
    pub date: Timestamp,
}

impl Received<'_> {
    /// Appends the header with its CRLF. Lines are folded to stay under 78 octets where the words allow it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut text = String::with_capacity(256);
        self.compose(&mut text);
        out.extend_from_slice(text.as_bytes());
    }

    fn compose(&self, out: &mut String) {
        out.push_str("Received: from ");
        push_word(out, if self.helo.is_empty() { "unknown" } else { self.helo });
        out.push_str(" (");
        push_word(out, self.client.unwrap_or("unknown"));
        let tag = if self.ip.is_ipv6() { "IPv6:" } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(out, " [{tag}{}])\r\n\tby ", self.ip);
        push_word(out, self.by);
        out.push_str(" with ");
        push_word(out, self.protocol);
        out.push_str(" id ");
        push_word(out, self.id);
        if let Some(recipient) = self.recipient {
            out.push_str("\r\n\tfor <");
            push_path(out, recipient);
            out.push('>');
        }
        out.push_str(";\r\n\t");
        push_date(out, self.date);
        out.push_str("\r\n");
    }
}

/// Appends `Return-Path: <reverse-path>` with its CRLF; an empty path, a bounce's, is `<>`.
pub fn write_return_path(out: &mut Vec<u8>, reverse_path: &str) {
    let mut text = String::with_capacity(reverse_path.len() + 18);
    text.push_str("Return-Path: <");
    push_path(&mut text, reverse_path);
    text.push_str(">\r\n");
    out.extend_from_slice(text.as_bytes());
}

/// A time as RFC 5322 §3.3 writes it, in UTC: `Sat, 21 Nov 2026 09:30:00 +0000`.
#[must_use]
pub fn rfc5322_date(at: Timestamp) -> String {
    let mut text = String::with_capacity(31);
    push_date(&mut text, at);
    text
}

/// How many `Received:` fields the header block of `raw` has.
#[must_use]
pub fn count_received(raw: &[u8]) -> usize {
    let mut rest = raw;
    let mut count = 0;
    while !rest.is_empty() {
        if rest.starts_with(b"\r\n") || rest.starts_with(b"\n") {
            break;
        }
        if is_received(rest) {
            count += 1;
        }
        let Some(end) = memchr::memchr(b'\n', rest) else { break };
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    count
}

fn is_received(line: &[u8]) -> bool {
    let Some((name, after)) = line.split_at_checked(8) else { return false };
    // RFC 5322 §4.5.8 lets white space stand before the colon.
    name.eq_ignore_ascii_case(b"received") && after.iter().find(|b| !matches!(b, b' ' | b'\t')) == Some(&b':')
}

/// One word of a stranger: no white space, nothing that ends a comment, a line or the header, and bounded.
fn push_word(out: &mut String, word: &str) {
    const LIMIT: usize = 255;
    out.extend(word.chars().take(LIMIT).map(|c| match c {
        '(' | ')' | '<' | '>' | '\\' | '"' | ';' | ',' => '?',
        c if c.is_control() || c.is_whitespace() => '?',
        c => c,
    }));
}

/// A path was checked when SMTP parsed it; what could end the line is left out even so.
fn push_path(out: &mut String, path: &str) {
    out.extend(path.chars().filter(|c| !c.is_control()));
}

fn push_date(out: &mut String, at: Timestamp) {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // Four digits are what RFC 5322 readers understand: years 0 to 9999.
    let seconds = at.seconds().clamp(-62_167_219_200, 253_402_300_799);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let weekday = usize::try_from(days.rem_euclid(7)).ok().and_then(|d| DAYS.get(d)).unwrap_or(&"Thu");
    let month = MONTHS.get(month).unwrap_or(&"Jan");
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    // Writing to a string cannot fail.
    let _ = write!(out, "{weekday}, {day} {month} {year:04} {hour:02}:{minute:02}:{second:02} +0000");
}

/// Year, month from zero and day of a day counted from 1970-01-01, by shifting the year to begin in March.
fn civil(days: i64) -> (i64, usize, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = year_of_era + era * 400 + i64::from(month < 2);
    (year, usize::try_from(month).unwrap_or(0), day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn received(helo: &str, recipient: Option<&str>) -> String {
        let mut out = Vec::new();
        let header = Received {
            helo,
            client: None,
            ip: "192.0.2.1".parse().unwrap(),
            by: "mail.example.com",
            protocol: "ESMTP",
            id: "0193",
            recipient,
            date: Timestamp::parse("2026-11-21T09:30:00Z").unwrap(),
        };
        header.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_a_received_header() {
        assert_eq!(
            received("client.example", Some("bob@example.com")),
            "Received: from client.example (unknown [192.0.2.1])\r\n\
             \tby mail.example.com with ESMTP id 0193\r\n\
             \tfor <bob@example.com>;\r\n\
             \tSat, 21 Nov 2026 09:30:00 +0000\r\n"
        );
        assert!(!received("client.example", None).contains("for"));
        assert!(received("", None).starts_with("Received: from unknown ("));
    }

    #[test]
    fn a_hostile_helo_writes_no_header_of_its_own() {
        let header = received("a\r\nX-Evil: 1)(;\u{85}b", None);
        assert_eq!(header.lines().count(), 3);
        assert!(header.starts_with("Received: from a??X-Evil:?1????b (unknown"), "{header}");
    }

    #[test]
    fn names_ipv6_clients_as_literals_do() {
        let mut out = Vec::new();
        let header = Received {
            helo: "h",
            client: Some("host.example"),
            ip: "2001:db8::1".parse().unwrap(),
            by: "m",
            protocol: "SMTP",
            id: "1",
            recipient: None,
            date: Timestamp(0),
        };
        header.write(&mut out);
        assert!(String::from_utf8(out).unwrap().contains("(host.example [IPv6:2001:db8::1])"));
    }

    #[test]
    fn writes_a_return_path() {
        let mut out = Vec::new();
        write_return_path(&mut out, "");
        write_return_path(&mut out, "bob@example.com");
        assert_eq!(out, b"Return-Path: <>\r\nReturn-Path: <bob@example.com>\r\n");
    }

    #[test]
    fn counts_received_in_the_header_block_only() {
        let raw = b"Received: a\r\nreceived : b\r\n Received: folded\r\nReceived-SPF: x\r\n\
                    RECEIVED:c\r\n\r\nReceived: body\r\n";
        assert_eq!(count_received(raw), 3);
        assert_eq!(count_received(b""), 0);
        assert_eq!(count_received(b"\r\nReceived: a\r\n"), 0);
        assert_eq!(count_received(b"Received: a"), 1);
        assert_eq!(count_received(b"Received"), 0);
    }

    proptest! {
        #[test]
        fn dates_agree_with_a_calendar(seconds in -62_167_219_200_i64..253_402_300_799) {
            let expected = jiff::Timestamp::from_second(seconds).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
            let expected = expected.strftime("%a, %-d %b %Y %H:%M:%S +0000").to_string();
            prop_assert_eq!(rfc5322_date(Timestamp::from_seconds(seconds)), expected);
        }

        #[test]
        fn nothing_in_it_breaks_the_line(helo in any::<String>(), recipient in any::<String>()) {
            let header = received(&helo, Some(&recipient));
            prop_assert_eq!(header.matches('\n').count(), 4);
            prop_assert_eq!(header.matches('\r').count(), 4);
        }
    }
}
