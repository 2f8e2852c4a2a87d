//! What `doctor` wants to know of the broker. It makes nothing and changes nothing: what it sends goes to nobody.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::AMQPSoftError;
use lapin::{BasicProperties, Connection, Event};

use super::config::BrokerConfig;
use super::link::{self, NoLink};
use super::topology::{self, Names, Trouble};

/// How the broker was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// It cannot be reached, or does not let us in.
    Unreachable(String),
    /// It takes no messages: short of disk or memory.
    Blocked(String),
    /// A queue, or the broker itself, is not what the settings ask for.
    Otherwise(String),
    /// Queues were made by an earlier version, with a limit of deliveries of the broker's own.
    Earlier { limit: i32, waiting: u64 },
    /// All is well; so many of the queues are still to be made, by the first server that starts.
    Well { missing: usize, waiting: u64, dead: u64 },
}

/// How long a broker that is short of something takes to say so, or one that is not to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// Looks at the broker.
pub async fn examine(config: &BrokerConfig) -> Finding {
    let connection = match connect(config).await {
        Ok(connection) => connection,
        Err(why) => return Finding::Unreachable(why.to_string()),
    };
    let finding = look(&connection, config).await.unwrap_or_else(|error| Finding::Unreachable(error.to_string()));
    // It was looked at; a close that fails changes nothing.
    let _ = tokio::time::timeout(ANSWER, connection.close(200, "looked".into())).await;
    finding
}

/// A server that does not take a certificate, or misses one, says so and cuts the connection at once, which may keep its words
/// from being read: it is asked again for them.
async fn connect(config: &BrokerConfig) -> Result<Connection, NoLink> {
    const TRIES: usize = 5;
    for _ in 1..TRIES {
        match link::connect(config, "doctor").await {
            Err(why) if config.is_tls() && why.to_string().contains("reset by peer") => {}
            connected => return connected,
        }
    }
    link::connect(config, "doctor").await
}

async fn look(connection: &Connection, config: &BrokerConfig) -> Result<Finding, lapin::Error> {
    if let Some(why) = alarm(connection).await? {
        return Ok(Finding::Blocked(why));
    }
    let names = Names::new(config);
    let (mut missing, mut waiting, mut dead, mut earlier) = (0, 0, 0, None);
    for (queue, arguments) in names.declarations() {
        // An error closes a channel: each has its own.
        let channel = connection.create_channel().await?;
        match topology::look(&channel, &queue).await {
            Ok((count, _)) if queue == names.dead() => dead = u64::from(count),
            Ok((count, _)) => waiting += u64::from(count),
            Err(error) if topology::refused(&error, AMQPSoftError::NOTFOUND).is_some() => {
                missing += 1;
                continue;
            }
            Err(error) => return Err(error),
        }
        channel.close(200, "looked".into()).await?;
        match topology::declare_one(connection, &queue, arguments).await {
            Ok(limit) => earlier = earlier.or(limit),
            Err(error) => {
                return match topology::judge(config, &names, queue, error) {
                    Trouble::Link(error) => Err(error),
                    trouble => Ok(Finding::Otherwise(trouble.to_string())),
                };
            }
        }
    }
    match topology::try_size(connection, config.max_message_size).await {
        Ok(()) => {}
        Err(Trouble::Link(error)) => return Err(error),
        Err(trouble) => return Ok(Finding::Otherwise(trouble.to_string())),
    }
    Ok(match earlier {
        Some(limit) if dead == 0 => Finding::Earlier { limit, waiting },
        _ => Finding::Well { missing, waiting, dead },
    })
}

/// A broker tells of an alarm only those who publish: so something is, to nobody.
async fn alarm(connection: &Connection) -> Result<Option<String>, lapin::Error> {
    let mut events = std::pin::pin!(connection.events_listener());
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let nobody = format!("mailroom.doctor.{:016x}", rand::random::<u64>());
    let sent = async {
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        channel.basic_publish("".into(), nobody.as_str().into(), options, b"", properties).await?.await
    };
    let blocked = async {
        while let Some(event) = events.next().await {
            if let Event::ConnectionBlocked(why) = event {
                return why;
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        biased;
        why = blocked => Ok(Some(why)),
        sent = sent => sent.map(|_| None),
        () = tokio::time::sleep(ANSWER) => Ok(Some("it does not answer to a message".into())),
    }
}
