//! How often something may happen, as an operator writes it, and what follows from that. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const EXPECTED: &str = r#"a rate such as "100/s", "3000/m" or "10000/h", or "0" for no limit"#;
const SECOND: u64 = 1_000_000;
const UNITS: [(&str, u64); 3] = [("s", SECOND), ("m", 60 * SECOND), ("h", 3_600 * SECOND)];

/// So many in so many microseconds; none of any is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    per: u64,
}

/// The text is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not {EXPECTED}")]
pub struct NotARate(String);

impl Rate {
    pub const NONE: Self = Self { count: 0, per: SECOND };

    /// So many a minute.
    #[must_use]
    pub const fn per_minute(count: u32) -> Self {
        Self { count, per: 60 * SECOND }
    }

    #[must_use]
    pub const fn is_none(self) -> bool {
        self.count == 0
    }

    /// Microseconds from one to the next, at least 1.
    #[must_use]
    pub const fn interval(self) -> u64 {
        match self.per.checked_div(self.count as u64) {
            Some(0) | None => 1,
            Some(interval) => interval,
        }
    }

    /// How many in a second, rounded down.
    #[must_use]
    pub fn per_second(self) -> u32 {
        u32::try_from(u64::from(self.count) * SECOND / self.per).unwrap_or(u32::MAX)
    }
}

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        let wrong = || NotARate(text.to_owned());
        let trimmed = text.trim();
        if trimmed == "0" {
            return Ok(Self::NONE);
        }
        let (count, unit) = trimmed.split_once('/').ok_or_else(wrong)?;
        let (_, per) = UNITS.into_iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
        let count = count.trim().parse::<u32>().ok().filter(|count| u64::from(*count) <= per).ok_or_else(wrong)?;
        Ok(if count == 0 { Self::NONE } else { Self { count, per } })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, per)| *per == self.per) {
            Some((unit, _)) if self.count > 0 => write!(f, "{}/{unit}", self.count),
            _ => f.write_str("0"),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text)
    }
}

/// A text, or a bare 0.
struct Text;

impl de::Visitor<'_> for Text {
    type Value = Rate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Rate, E> {
        number.to_string().parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_shows_rates() {
        for (text, interval, per_second) in [("100/s", 10_000, 100), ("30/m", 2_000_000, 0), ("7200/h", 500_000, 2)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.interval(), rate.per_second(), rate.to_string()), (interval, per_second, text.to_owned()));
        }
        for text in ["0", "0/s", " 0 / m "] {
            assert_eq!(text.parse(), Ok(Rate::NONE), "{text}");
        }
        assert_eq!(Rate::NONE.to_string(), "0");
        for text in ["", "100", "/s", "-1/s", "1.5/s", "1/d", "2000000/s", "s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
