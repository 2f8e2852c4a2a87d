//! The WebSocket frames that a client meets (RFC 6455 §5), pure.

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Close,
    Ping,
    Other,
}

/// A whole frame at the beginning of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: Kind,
    pub payload: &'a [u8],
    /// Bytes it takes in the buffer.
    pub len: usize,
}

/// The next frame from a server, unmasked; `None` while it is not whole.
pub fn parse(input: &[u8]) -> Option<Frame<'_>> {
    let (first, second) = (*input.first()?, *input.get(1)?);
    let (length, head) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(input.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    };
    let end = usize::try_from(length).ok()?.checked_add(head)?;
    let kind = match first & 0x0f {
        0x1 => Kind::Text,
        0x8 => Kind::Close,
        0x9 => Kind::Ping,
        _ => Kind::Other,
    };
    Some(Frame { kind, payload: input.get(head..end)?, len: end })
}

/// A text frame from a client. The mask is zero, which is a mask (RFC 6455 §5.3 asks for one that pages cannot predict; no
/// page writes here).
pub fn text(payload: &str) -> Vec<u8> {
    frame(0x1, payload.as_bytes())
}

/// The answer to a ping.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    frame(0xa, payload)
}

/// A close without a reason.
pub fn close() -> Vec<u8> {
    frame(0x8, &1_000_u16.to_be_bytes())
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match u16::try_from(payload.len()) {
        Ok(length) if length < 126 => out.push(0x80 | u8::try_from(length).unwrap_or(0)),
        Ok(length) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_frames_of_every_length_form() {
        for length in [0usize, 5, 125, 126, 65_535, 65_536] {
            let mut bytes = match length {
                0..126 => vec![0x81, u8::try_from(length).unwrap()],
                126..65_536 => [vec![0x81, 126], u16::try_from(length).unwrap().to_be_bytes().to_vec()].concat(),
                _ => [vec![0x81, 127], (length as u64).to_be_bytes().to_vec()].concat(),
            };
            bytes.resize(bytes.len() + length, b'x');
            let whole = parse(&bytes).unwrap();
            assert_eq!((whole.kind, whole.payload.len(), whole.len), (Kind::Text, length, bytes.len()));
            assert_eq!(parse(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn a_clients_frame_is_marked_as_masked() {
        assert_eq!(text("hi"), [0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
        assert_eq!(text(&"x".repeat(200))[..4], [0x81, 0xfe, 0, 200]);
    }

    #[test]
    fn tells_pings_and_closes() {
        assert_eq!(parse(&[0x89, 1, 7]).unwrap().kind, Kind::Ping);
        assert_eq!(parse(&[0x88, 0]).unwrap().kind, Kind::Close);
    }
}
