//! The SMTP envelope of one message: who sent it from where, and the recipients as they were written.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What SMTP said about a message before its data (RFC 5321 §2.3.1), without the recipients, which differ
/// from mailbox to mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Envelope {
    /// The reverse path without its brackets; empty for a bounce (`MAIL FROM:<>`).
    pub reverse_path: String,
    /// The argument of EHLO or HELO.
    pub helo: String,
    /// The address that the client connected from.
    #[schema(value_type = String)]
    pub client: IpAddr,
    /// The protocol for `Received … with` (RFC 3848): `SMTP`, `ESMTP`, `UTF8SMTP`, later the TLS and AUTH forms.
    pub protocol: String,
    /// MAIL had SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// MAIL had BODY=8BITMIME (RFC 6152).
    pub eight_bit: bool,
}
