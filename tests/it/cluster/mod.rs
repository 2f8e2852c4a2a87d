//! Three nodes behind nginx on one PostgreSQL with Redis, without a broker and with RabbitMQ, and one part after the other
//! fails under load: every 250 is stored once, every socket hears every event, and nothing needs a hand to come back.

pub mod load;
mod world;

use std::time::Duration;

use load::Load;
use world::Cluster;

use crate::support::servers::RabbitMq;

/// How long a part stays away.
const AWAY: Duration = Duration::from_secs(3);
/// Longer than a node believes what it read of a mailbox.
const BELIEVED: Duration = Duration::from_secs(6);
/// Longer than the database lets a transaction stand still.
const PAUSED: Duration = Duration::from_secs(12);

#[actix::test]
async fn whatever_fails_under_load_every_250_is_stored_once_and_every_socket_hears_it() {
    everything_fails_once(Cluster::start(None).await).await;
}

#[actix::test]
async fn with_a_broker_mail_is_taken_while_the_database_is_away() {
    everything_fails_once(Cluster::start(Some(RabbitMq::start())).await).await;
}

async fn everything_fails_once(mut cluster: Cluster) {
    let load = Load::start(&[cluster.door()]).await;
    load.goes_on("three nodes").await;

    cluster.kill_node(0);
    load.goes_on("a node was killed").await;
    cluster.start_node(0).await;
    load.catches_up("the node is back").await;

    cluster.node(1).pause();
    tokio::time::sleep(PAUSED).await;
    load.goes_on("a node stands still").await;
    cluster.node(1).resume();
    load.catches_up("the node goes on").await;

    cluster.redis.kill();
    tokio::time::sleep(AWAY).await;
    load.goes_on("Redis is away").await;
    load.catches_up("without Redis").await;
    cluster.redis.restart().await;
    load.catches_up("Redis is back").await;

    cluster.postgres.kill();
    if cluster.rabbit.is_some() {
        load.goes_on("the database is away").await;
        tokio::time::sleep(BELIEVED).await;
        load.goes_on("the database is away for longer").await;
    }
    tokio::time::sleep(AWAY).await;
    cluster.postgres.restart().await;
    load.goes_on("the database is back").await;
    load.catches_up("the database is back").await;

    if let Some(rabbit) = &mut cluster.rabbit {
        rabbit.kill();
        tokio::time::sleep(AWAY).await;
        rabbit.restart().await;
        load.goes_on("RabbitMQ is back").await;
        load.catches_up("RabbitMQ is back").await;
    }

    cluster.nginx.kill();
    tokio::time::sleep(AWAY).await;
    cluster.nginx.restart().await;
    load.goes_on("nginx is back").await;
    load.catches_up("nginx is back").await;

    for n in 0..world::NODES {
        cluster.restart_node(n).await;
        load.goes_on("a node was restarted").await;
    }
    load.catches_up("all nodes were restarted").await;

    load.ends_well(&cluster.api()).await;
    cluster.stop();
}
