//! Whether the network of a client may send one more message (`[limits] messages`).

use std::net::IpAddr;

use crate::cluster::limits::{Kind, Limits, Refused};
use crate::handoff::Answer;
use crate::smtp::reply::{self, Reply};

/// Takes one of its messages: answered at once, or once Redis was asked.
pub fn message(limits: &Limits, client: IpAddr) -> Answer<Result<(), Reply>> {
    let over = |_: Refused| reply::TOO_MANY_MESSAGES;
    match limits.admit_now(Kind::Messages, client) {
        Some(answer) => Answer::Now(answer.map_err(over)),
        None => {
            let limits = limits.clone();
            Answer::Later(Box::pin(async move { limits.admit(Kind::Messages, client).await.map_err(over) }))
        }
    }
}
