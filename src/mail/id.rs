//! Names of things: a delivery (one accepted message, the same in each mailbox that got it) and a session.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::{NoContext, Uuid};

use super::time::Timestamp;

/// One accepted message, a UUIDv7 (RFC 9562 §5.7): ids of later deliveries sort after earlier ones to the
/// millisecond. The same in each mailbox that got the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct DeliveryId(pub Uuid);

impl DeliveryId {
    /// A new id for what arrived at `now`; the rest of it is random.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let micros = now.0.max(0).unsigned_abs();
        let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0).saturating_mul(1_000);
        Self(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, micros / 1_000_000, nanos)))
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DeliveryId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// One SMTP session, in every log line it writes and in its `Received` header: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
