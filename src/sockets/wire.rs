//! The WebSocket protocol below our messages (RFC 6455 §5): bytes of a client to whole messages, and the few control
//! frames that are written outside of an actor. Pure.
//!
//! The decoder is fed pieces split anywhere. It keeps only what is incomplete: nothing while a client is idle, at most
//! the limit while a message comes in. A message over the limit is skipped, not kept, and reported when it ends.

use bytes::{BufMut, Bytes, BytesMut};

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A whole text message.
    Text(String),
    /// A whole binary message; its content was dropped.
    Binary,
    /// A whole message that was over the limit; its content was dropped.
    TooLarge,
    /// To be answered with a pong of the same content (at most 125 bytes).
    Ping(Vec<u8>),
    Pong,
    /// The client closes, with its code if it gave one.
    Close(Option<u16>),
    /// The client broke the protocol; nothing more can be read.
    Broken(Violation),
}

/// How a client broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A frame that RFC 6455 does not allow.
    Protocol(&'static str),
    /// A text message that is not UTF-8.
    NotUtf8,
    /// A frame so large that even skipping it is refused.
    TooBig,
}

impl Violation {
    /// The close code (RFC 6455 §7.4.1) and what to say.
    #[must_use]
    pub const fn close(self) -> (u16, &'static str) {
        match self {
            Self::Protocol(what) => (1002, what),
            Self::NotUtf8 => (1007, "text is not UTF-8"),
            Self::TooBig => (1009, "frame too big"),
        }
    }
}

/// Frames above this many times the limit end the connection.
const SKIP_FACTOR: u64 = 256;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[derive(Debug)]
struct Frame {
    last: bool,
    opcode: u8,
    mask: [u8; 4],
    /// Bytes of the payload still to come, and already seen (for the mask).
    left: u64,
    seen: usize,
}

/// The data message that is being put together from frames.
#[derive(Debug, PartialEq, Eq)]
enum Assembling {
    Nothing,
    Text,
    Binary,
    Oversized,
}

/// Turns bytes into [`Item`]s; see the module.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    head: [u8; 14],
    head_len: usize,
    frame: Option<Frame>,
    assembling: Assembling,
    message: Vec<u8>,
    control: Vec<u8>,
}

impl Decoder {
    /// `limit`: bytes of a text message.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            head: [0; 14],
            head_len: 0,
            frame: None,
            assembling: Assembling::Nothing,
            message: Vec::new(),
            control: Vec::new(),
        }
    }

    /// Takes bytes off the front of `input` up to the end of the next item. None: all of `input` was taken.
    /// Not to be called again after `Broken`.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Item> {
        loop {
            if self.frame.is_none() {
                match self.header(input) {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(violation) => return Some(Item::Broken(violation)),
                }
            }
            let Some(frame) = &mut self.frame else { return None };
            let take = usize::try_from(frame.left).unwrap_or(usize::MAX).min(input.len());
            let (payload, rest) = input.split_at_checked(take)?;
            *input = rest;
            if let Some(into) = match frame.opcode {
                CLOSE | PING => Some(&mut self.control),
                CONTINUATION | TEXT if self.assembling == Assembling::Text => Some(&mut self.message),
                _ => None,
            } {
                unmask(into, payload, frame.mask, frame.seen);
            }
            frame.seen = frame.seen.wrapping_add(take);
            frame.left = frame.left.saturating_sub(take as u64);
            if frame.left > 0 {
                return None;
            }
            let (opcode, last) = (frame.opcode, frame.last);
            self.frame = None;
            if let Some(item) = self.finish(opcode, last) {
                return Some(item);
            }
        }
    }

    /// Reads a frame's head; false when more bytes are needed.
    fn header(&mut self, input: &mut &[u8]) -> Result<bool, Violation> {
        loop {
            let need = match self.head {
                _ if self.head_len < 2 => 2,
                [_, second, ..] if second & 0x80 == 0 => return Err(Violation::Protocol("frame is not masked")),
                [_, second, ..] => match second & 0x7f {
                    126 => 8,
                    127 => 14,
                    _ => 6,
                },
            };
            if self.head_len >= need {
                break;
            }
            let Some((byte, rest)) = input.split_first() else { return Ok(false) };
            if let Some(slot) = self.head.get_mut(self.head_len) {
                *slot = *byte;
            }
            self.head_len += 1;
            *input = rest;
        }
        self.head_len = 0;
        let frame = parse_head(self.head)?;
        self.admit(&frame)?;
        self.frame = Some(frame);
        Ok(true)
    }

    /// Checks a frame against the message that is under way (RFC 6455 §5.4, §5.5).
    fn admit(&mut self, frame: &Frame) -> Result<(), Violation> {
        match frame.opcode {
            CLOSE | PING | PONG => {
                if !frame.last || frame.left > 125 {
                    return Err(Violation::Protocol("control frame is fragmented or too long"));
                }
                self.control.clear();
                return Ok(());
            }
            CONTINUATION if self.assembling == Assembling::Nothing => {
                return Err(Violation::Protocol("continuation of nothing"));
            }
            CONTINUATION => {}
            TEXT | BINARY if self.assembling != Assembling::Nothing => {
                return Err(Violation::Protocol("new message inside a fragmented one"));
            }
            TEXT => self.assembling = Assembling::Text,
            BINARY => self.assembling = Assembling::Binary,
            _ => return Err(Violation::Protocol("unknown opcode")),
        }
        if frame.left > (self.limit as u64).saturating_mul(SKIP_FACTOR) {
            return Err(Violation::TooBig);
        }
        if frame.left.saturating_add(self.message.len() as u64) > self.limit as u64 {
            self.assembling = Assembling::Oversized;
            self.message = Vec::new();
        }
        Ok(())
    }

    fn finish(&mut self, opcode: u8, last: bool) -> Option<Item> {
        match opcode {
            PING => return Some(Item::Ping(std::mem::take(&mut self.control))),
            PONG => return Some(Item::Pong),
            CLOSE => return Some(close_item(&std::mem::take(&mut self.control))),
            _ if !last => return None,
            _ => {}
        }
        let message = std::mem::take(&mut self.message);
        match std::mem::replace(&mut self.assembling, Assembling::Nothing) {
            Assembling::Oversized => Some(Item::TooLarge),
            Assembling::Binary => Some(Item::Binary),
            Assembling::Text => Some(String::from_utf8(message).map_or(Item::Broken(Violation::NotUtf8), Item::Text)),
            Assembling::Nothing => None,
        }
    }
}

fn parse_head(head: [u8; 14]) -> Result<Frame, Violation> {
    let [first, second, a, b, c, d, e, f, g, h, i, j, k, l] = head;
    if first & 0x70 != 0 {
        return Err(Violation::Protocol("reserved bits are set"));
    }
    let (left, mask) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes([a, b])), [c, d, e, f]),
        127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), [i, j, k, l]),
        short => (u64::from(short), [a, b, c, d]),
    };
    Ok(Frame { last: first & 0x80 != 0, opcode: first & 0x0f, mask, left, seen: 0 })
}

fn unmask(into: &mut Vec<u8>, payload: &[u8], mask: [u8; 4], seen: usize) {
    into.reserve_exact(payload.len());
    into.extend(payload.iter().zip(mask.iter().cycle().skip(seen % 4)).map(|(byte, key)| byte ^ key));
}

fn close_item(payload: &[u8]) -> Item {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            Item::Close(None)
        } else {
            Item::Broken(Violation::Protocol("close frame of one byte"))
        };
    };
    let code = u16::from_be_bytes(*code);
    // RFC 6455 §7.4: what an endpoint may send.
    let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if !allowed || std::str::from_utf8(reason).is_err() {
        return Item::Broken(Violation::Protocol("close frame with an invalid code or reason"));
    }
    Item::Close(Some(code))
}

/// An empty ping.
#[must_use]
pub const fn ping() -> Bytes {
    Bytes::from_static(&[0x80 | PING, 0])
}

/// A close frame; `reason` at most 123 bytes (longer ones are left out).
#[must_use]
pub fn close(code: u16, reason: &str) -> Bytes {
    let reason = if reason.len() > 123 { "" } else { reason };
    let mut frame = BytesMut::with_capacity(4 + reason.len());
    frame.put_u8(0x80 | CLOSE);
    frame.put_u8(u8::try_from(2 + reason.len()).unwrap_or(2));
    frame.put_u16(code);
    frame.put_slice(reason.as_bytes());
    frame.freeze()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1_000;

    fn frame(last: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![opcode | if last { 0x80 } else { 0 }];
        match payload.len() {
            n @ 0..126 => out.push(0x80 | n as u8),
            n @ 126..65_536 => {
                out.push(0x80 | 126);
                out.extend((n as u16).to_be_bytes());
            }
            n => {
                out.push(0x80 | 127);
                out.extend((n as u64).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 250];
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        out
    }

    fn decode(decoder: &mut Decoder, mut bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        while let Some(item) = decoder.next(&mut bytes) {
            let broken = matches!(item, Item::Broken(_));
            items.push(item);
            if broken {
                break;
            }
        }
        items
    }

    fn all(bytes: &[u8]) -> Vec<Item> {
        decode(&mut Decoder::new(LIMIT), bytes)
    }

    fn text(text: &str) -> Item {
        Item::Text(text.to_owned())
    }

    #[test]
    fn puts_fragments_together_around_control_frames() {
        let stream = [
            frame(false, TEXT, b"hel"),
            frame(true, PING, b"p"),
            frame(false, CONTINUATION, b""),
            frame(true, CONTINUATION, b"lo"),
            frame(true, PONG, b"ignored"),
            frame(true, BINARY, b"\xff\xff"),
            frame(true, TEXT, b""),
            frame(true, CLOSE, &[0x03, 0xe8, b'x']),
        ]
        .concat();
        let expected = || {
            vec![Item::Ping(b"p".to_vec()), text("hello"), Item::Pong, Item::Binary, text(""), Item::Close(Some(1000))]
        };
        assert_eq!(all(&stream), expected());
        for split in 0..stream.len() {
            let mut decoder = Decoder::new(LIMIT);
            let mut items = decode(&mut decoder, &stream[..split]);
            items.extend(decode(&mut decoder, &stream[split..]));
            assert_eq!(items, expected(), "split at {split}");
        }
        let mut decoder = Decoder::new(LIMIT);
        let items: Vec<_> = stream.iter().flat_map(|byte| decode(&mut decoder, &[*byte])).collect();
        assert_eq!(items, expected());
        assert_eq!((decoder.message.capacity(), decoder.control.capacity()), (0, 0), "holds nothing when idle");
    }

    #[test]
    fn a_utf8_character_may_be_split_over_frames() {
        let stream = [frame(false, TEXT, &[0xe4, 0xbd]), frame(true, CONTINUATION, &[0xa0])].concat();
        assert_eq!(all(&stream), [text("你")]);
        assert_eq!(all(&frame(true, TEXT, &[0xe4, 0xbd])), [Item::Broken(Violation::NotUtf8)]);
    }

    #[test]
    fn skips_what_is_over_the_limit_without_keeping_it() {
        assert_eq!(all(&frame(true, TEXT, &[b'a'; LIMIT])), [text(&"a".repeat(LIMIT))]);
        let stream = [
            frame(true, TEXT, &vec![b'a'; LIMIT + 1]),
            frame(false, TEXT, &vec![b'a'; LIMIT]),
            frame(false, CONTINUATION, b"a"),
            frame(true, CONTINUATION, &vec![b'a'; 70_000]),
            frame(true, TEXT, b"after"),
        ]
        .concat();
        let mut decoder = Decoder::new(LIMIT);
        assert_eq!(decode(&mut decoder, &stream), [Item::TooLarge, Item::TooLarge, text("after")]);
        let mut endless = vec![0x81, 0xff];
        endless.extend((LIMIT as u64 * SKIP_FACTOR + 1).to_be_bytes());
        endless.extend([0; 4]);
        assert_eq!(all(&endless), [Item::Broken(Violation::TooBig)]);
    }

    #[test]
    fn refuses_what_the_rfc_forbids() {
        let broken: &[(&str, Vec<u8>)] = &[
            ("unmasked", vec![0x81, 0x01, b'a']),
            ("reserved bit", [vec![0xc1], frame(true, TEXT, b"")[1..].to_vec()].concat()),
            ("opcode 3", frame(true, 3, b"")),
            ("opcode 11", frame(true, 11, b"")),
            ("continuation of nothing", frame(true, CONTINUATION, b"")),
            ("text in text", [frame(false, TEXT, b"a"), frame(true, TEXT, b"b")].concat()),
            ("fragmented ping", frame(false, PING, b"")),
            ("long ping", frame(true, PING, &[0; 126])),
            ("close of one byte", frame(true, CLOSE, b"a")),
            ("close 1005", frame(true, CLOSE, &1005u16.to_be_bytes())),
            ("close 999", frame(true, CLOSE, &999u16.to_be_bytes())),
            ("close reason", frame(true, CLOSE, &[0x03, 0xe8, 0xff])),
        ];
        for (name, stream) in broken {
            let items = all(stream);
            assert!(matches!(items[..], [Item::Broken(Violation::Protocol(_))]), "{name}: {items:?}");
        }
        assert_eq!(all(&frame(true, CLOSE, b"")), [Item::Close(None)]);
    }

    #[test]
    fn writes_close_frames() {
        assert_eq!(&close(1013, "slow")[..], b"\x88\x06\x03\xf5slow");
        assert_eq!(&close(1000, &"x".repeat(124))[..], b"\x88\x02\x03\xe8");
    }

    proptest! {
        #[test]
        fn messages_survive_any_fragmentation_and_splitting(
            messages in prop::collection::vec((".{0,80}", 1usize..20), 1..6),
            piece in 1usize..40,
        ) {
            let mut stream = Vec::new();
            for (message, size) in &messages {
                let parts: Vec<&[u8]> = message.as_bytes().chunks(*size).collect();
                let parts = if parts.is_empty() { vec![&b""[..]] } else { parts };
                for (n, part) in parts.iter().enumerate() {
                    stream.extend(frame(n + 1 == parts.len(), if n == 0 { TEXT } else { CONTINUATION }, part));
                }
            }
            let mut decoder = Decoder::new(LIMIT);
            let items: Vec<_> = stream.chunks(piece).flat_map(|piece| decode(&mut decoder, piece)).collect();
            prop_assert_eq!(items, messages.iter().map(|(m, _)| text(m)).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            all(&bytes);
        }
    }
}
