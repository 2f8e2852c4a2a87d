//! Amounts as an operator writes them: `"10MiB"`, `"30s"`, `"never"`.
//!
//! Every stage's `config.rs` takes its sizes and times as these types, so that a setting carries its unit and reads the
//! same in the file, in the environment and in an error. [`Display`](fmt::Display) writes the shortest exact form, which
//! reads back to the same value.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount of bytes: `"512"`, `"10MB"` (powers of 1,000) or `"256MiB"` (powers of 1,024); a bare number is bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A length of time: a whole number and one of `ms`, `s`, `m`, `h`, `d`. A bare number is refused, except `"0"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

/// A bound that may be absent: `Limit(None)` is written `"never"` (times) or `"unlimited"` (sizes, counts).
///
/// Both words, and `"none"`, are read for every kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limit<T>(pub Option<T>);

/// What was wrong with an amount, with an example of a right one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {expected}")]
pub struct UnitError {
    found: String,
    expected: &'static str,
}

/// A kind of value that a [`Limit`] can bound.
pub trait Limited: FromStr<Err = UnitError> + fmt::Display {
    /// The word for "no bound".
    const ABSENT: &'static str;
    /// What an operator may write, with an example.
    const EXPECTED: &'static str;
}

const BYTES: &str = r#"a size such as "10MiB", "10MB" or "512""#;
const PERIOD: &str = r#"a time such as "250ms", "30s", "5m", "12h" or "7d""#;

/// Larger units first, binary before decimal, so that the first exact one is the shortest.
const BYTE_UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
];

/// In milliseconds, larger first.
const PERIOD_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Bytes {
    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` GiB.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// The amount as a length in memory; on a 32-bit machine the largest there is.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Period {
    /// `n` milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    /// `n` seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// `n` minutes.
    pub const fn minutes(n: u64) -> Self {
        Self::secs(n * 60)
    }

    /// `n` hours.
    pub const fn hours(n: u64) -> Self {
        Self::secs(n * 3_600)
    }

    /// `n` days.
    pub const fn days(n: u64) -> Self {
        Self::secs(n * 86_400)
    }
}

impl<T> Limit<T> {
    /// No bound.
    pub const NONE: Self = Self(None);

    /// A bound of `value`.
    pub const fn of(value: T) -> Self {
        Self(Some(value))
    }
}

impl Limited for Bytes {
    const ABSENT: &'static str = "unlimited";
    const EXPECTED: &'static str = r#"a size such as "10MiB", "10MB" or "512", or "unlimited""#;
}

impl Limited for Period {
    const ABSENT: &'static str = "never";
    const EXPECTED: &'static str = r#"a time such as "30s", "5m" or "7d", or "never""#;
}

/// A count: `Limit<Count>` is a whole number or `"unlimited"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count(pub u64);

impl Limited for Count {
    const ABSENT: &'static str = "unlimited";
    const EXPECTED: &'static str = r#"a whole number such as 1000, or "unlimited""#;
}

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError::new(text, BYTES);
        let (digits, unit) = split_number(text);
        let number: u64 = digits.parse().map_err(|_| error())?;
        let factor = byte_factor(unit).ok_or_else(error)?;
        number.checked_mul(factor).map(Self).ok_or_else(error)
    }
}

impl FromStr for Period {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError::new(text, PERIOD);
        let (digits, unit) = split_number(text);
        let number: u64 = digits.parse().map_err(|_| error())?;
        if number == 0 && unit.is_empty() {
            return Ok(Self::default());
        }
        let factor = period_factor(unit).ok_or_else(error)?;
        number.checked_mul(factor).map(Self::millis).ok_or_else(error)
    }
}

impl FromStr for Count {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let digits = text.trim().replace('_', "");
        digits.parse().map(Self).map_err(|_| UnitError::new(text, "a whole number such as 1000"))
    }
}

impl<T: Limited> FromStr for Limit<T> {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if ["never", "unlimited", "none"].iter().any(|word| text.trim().eq_ignore_ascii_case(word)) {
            return Ok(Self(None));
        }
        text.parse().map(|value| Self(Some(value))).map_err(|_| UnitError::new(text, T::EXPECTED))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_exact(f, self.0, &BYTE_UNITS, "")
    }
}

impl fmt::Display for Period {
    /// Exact to the millisecond, which is as fine as a period can be written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        write_exact(f, millis, &PERIOD_UNITS, "s")
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl<T: Limited> fmt::Display for Limit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str(T::ABSENT),
        }
    }
}

impl UnitError {
    fn new(found: &str, expected: &'static str) -> Self {
        Self { found: found.into(), expected }
    }
}

/// The leading digits, and the unit after them and any blanks.
fn split_number(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    (digits, unit.trim_start())
}

fn byte_factor(unit: &str) -> Option<u64> {
    if unit.is_empty() || unit.eq_ignore_ascii_case("b") {
        return Some(1);
    }
    BYTE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| *factor)
}

fn period_factor(unit: &str) -> Option<u64> {
    PERIOD_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

/// Writes `amount` in the unit that divides it and leaves the smallest number.
fn write_exact(f: &mut fmt::Formatter<'_>, amount: u64, units: &[(&str, u64)], zero: &str) -> fmt::Result {
    if amount == 0 {
        return write!(f, "0{zero}");
    }
    let exact = units.iter().filter(|(_, factor)| amount.is_multiple_of(*factor)).max_by_key(|(_, factor)| *factor);
    match exact {
        Some((name, factor)) => write!(f, "{}{name}", amount / factor),
        None => write!(f, "{amount}"),
    }
}

macro_rules! serde_as_text {
    ($type:ty, $expected:expr) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Text::<$type>::new($expected))
            }
        }
    };
}

serde_as_text!(Bytes, BYTES);
serde_as_text!(Period, PERIOD);

impl<T: Limited> Serialize for Limit<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: Limited> Deserialize<'de> for Limit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text::<Self>::new(T::EXPECTED))
    }
}

/// Reads a string or a bare integer through [`FromStr`].
struct Text<T> {
    expected: &'static str,
    kind: std::marker::PhantomData<T>,
}

impl<T> Text<T> {
    fn new(expected: &'static str) -> Self {
        Self { expected, kind: std::marker::PhantomData }
    }
}

impl<T: FromStr<Err = UnitError>> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_sizes_in_every_unit() {
        for (text, bytes) in [
            ("512", 512),
            ("0", 0),
            ("10MB", 10_000_000),
            ("10 MiB", 10 << 20),
            ("256mib", 256 << 20),
            ("1kB", 1_000),
            ("2GiB", 2 << 30),
            ("7B", 7),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn reads_times_in_every_unit() {
        for (text, millis) in
            [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("12h", 43_200_000), ("7d", 604_800_000), ("0", 0)]
        {
            assert_eq!(text.parse(), Ok(Period::millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_what_has_no_or_a_wrong_unit() {
        for text in ["", "30", "5M", "1.5s", "-1s", "s", "30 seconds"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
        for text in ["", "MiB", "1.5MiB", "-1", "10M", "99999999999TiB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_shows_what_was_found_and_an_example() {
        let error = "thirty".parse::<Period>().unwrap_err().to_string();
        assert!(error.contains("\"thirty\"") && error.contains("\"30s\""), "{error}");
    }

    #[test]
    fn a_limit_may_be_absent() {
        assert_eq!("never".parse(), Ok(Limit::<Period>(None)));
        assert_eq!("unlimited".parse(), Ok(Limit::<Bytes>(None)));
        assert_eq!("7d".parse(), Ok(Limit::of(Period::days(7))));
        assert_eq!(Limit::<Period>(None).to_string(), "never");
        assert_eq!(Limit::<Bytes>(None).to_string(), "unlimited");
        assert_eq!(Limit::of(Count(1000)).to_string(), "1000");
    }

    #[test]
    fn writes_the_shortest_exact_form() {
        assert_eq!(Bytes::mib(10).to_string(), "10MiB");
        assert_eq!(Bytes(10_000_000).to_string(), "10MB");
        assert_eq!(Bytes(1_001).to_string(), "1001");
        assert_eq!(Period::secs(90).to_string(), "90s");
        assert_eq!(Period::minutes(5).to_string(), "5m");
        assert_eq!(Period::default().to_string(), "0s");
    }

    #[test]
    fn serde_takes_text_and_bare_numbers() {
        assert_eq!(serde_json::from_str::<Bytes>("1024").unwrap(), Bytes::kib(1));
        assert_eq!(serde_json::from_str::<Limit<Count>>("5").unwrap(), Limit::of(Count(5)));
        assert_eq!(serde_json::from_str::<Limit<Period>>("\"never\"").unwrap(), Limit(None));
        assert_eq!(serde_json::to_string(&Period::secs(30)).unwrap(), "\"30s\"");
        assert!(serde_json::from_str::<Period>("30").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(amount in any::<u64>(), shift in 0u32..60) {
            let bytes = Bytes((amount >> shift) << (shift / 2));
            prop_assert_eq!(bytes.to_string().parse(), Ok(bytes));
            let period = Period::millis(((amount >> 8) / 1_000 * 1_000) >> shift);
            prop_assert_eq!(period.to_string().parse(), Ok(period));
        }
    }
}
