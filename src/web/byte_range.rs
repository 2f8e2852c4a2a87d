//! `Range: bytes=…` (RFC 9110 §14): one range of a body that is held in memory. Pure.

use std::ops::Range;

/// What of the body to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: no range was asked for, or one that may be ignored (several ranges, another unit, bad syntax).
    Whole,
    /// 206 with these bytes; never empty.
    Part(Range<usize>),
    /// 416: the range begins beyond the end.
    Beyond,
}

/// What `header`, the value of Range, asks of a body of `length` bytes.
#[must_use]
pub fn wanted(header: Option<&str>, length: usize) -> Wanted {
    let Some(spec) = header.and_then(|value| value.trim().strip_prefix("bytes=")) else { return Wanted::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    if let Some(suffix) = first.is_empty().then_some(last) {
        return match number(suffix) {
            Some(0) => Wanted::Beyond,
            Some(_) if length == 0 => Wanted::Beyond,
            Some(count) => Wanted::Part(length.saturating_sub(count)..length),
            None => Wanted::Whole,
        };
    }
    let Some(first) = number(first) else { return Wanted::Whole };
    let end = match (last.is_empty(), number(last)) {
        (true, _) => length,
        (false, Some(last)) if last >= first => last.saturating_add(1).min(length),
        _ => return Wanted::Whole,
    };
    if first < length { Wanted::Part(first..end) } else { Wanted::Beyond }
}

/// Digits only; more than fits is as good as the largest that does.
fn number(digits: &str) -> Option<usize> {
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_rfc_9110() {
        for (header, length, expected) in [
            ("bytes=0-0", 10, Wanted::Part(0..1)),
            ("bytes=0-99", 10, Wanted::Part(0..10)),
            ("bytes=4-", 10, Wanted::Part(4..10)),
            ("bytes=-3", 10, Wanted::Part(7..10)),
            ("bytes=-30", 10, Wanted::Part(0..10)),
            ("bytes=9-18446744073709551616", 10, Wanted::Part(9..10)),
            ("bytes=10-", 10, Wanted::Beyond),
            ("bytes=-0", 10, Wanted::Beyond),
            ("bytes=0-", 0, Wanted::Beyond),
            ("bytes=-1", 0, Wanted::Beyond),
            ("bytes=5-4", 10, Wanted::Whole),
            ("bytes=0-1,3-4", 10, Wanted::Whole),
            ("bytes=a-b", 10, Wanted::Whole),
            ("bytes=+1-2", 10, Wanted::Whole),
            ("lines=0-1", 10, Wanted::Whole),
            ("bytes=", 10, Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(header), length), expected, "{header}");
        }
        assert_eq!(wanted(None, 10), Wanted::Whole);
    }
}
