//! An upgrade as docs/deployment.md describes it: one node after the other.

use super::{DATABASE, New, Nodes, Old};
use crate::cluster::load::Load;
use crate::support::servers::RabbitMq;

/// What tables there are and what is in them, in the words of PostgreSQL.
const TABLES: &str = "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns \
    WHERE table_schema = 'public' ORDER BY 1, 2; \
    SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2; \
    SELECT version FROM seaql_migrations ORDER BY 1";

#[actix::test]
#[ignore = "needs an older program: make test-upgrade OLD=REVISION"]
async fn three_nodes_are_replaced_one_after_the_other_under_load() {
    let mut nodes = Nodes::start(&[Old; 3], Some(RabbitMq::start()), &[]).await;
    let load = Load::start(&nodes.doors()).await;
    load.goes_on("three old nodes").await;
    for n in 0..3 {
        nodes.replace(n, New).await;
        load.goes_on(&format!("{} of 3 are new", n + 1)).await;
        load.catches_up(&format!("{} of 3 are new", n + 1)).await;
    }
    load.ends_well(&nodes.api(0)).await;
    nodes.are_sound().await;
    // What was brought up to date is what is made anew.
    nodes.postgres.sql("postgres", "CREATE DATABASE fresh");
    let url = nodes.postgres.url("fresh");
    let made = nodes.run(New, &["migrate", "--database", &url]);
    assert!(made.status.success(), "{}", super::said(&made));
    assert_eq!(nodes.postgres.sql(DATABASE, TABLES), nodes.postgres.sql("fresh", TABLES));
    nodes.stop();
}

/// Each crashes where it is most in the way: in the middle of an upgrade, beside the other version.
#[actix::test]
#[ignore = "needs an older program: make test-upgrade OLD=REVISION"]
async fn nodes_of_both_versions_are_killed_while_both_run() {
    let mut nodes = Nodes::start(&[Old, Old, New], Some(RabbitMq::start()), &[]).await;
    let load = Load::start(&nodes.doors()).await;
    load.goes_on("two old nodes and a new one").await;
    nodes.kill(2);
    load.goes_on("the new one was killed").await;
    nodes.launch(2, New).await;
    load.catches_up("it is back").await;
    nodes.kill(0);
    load.goes_on("an old one was killed").await;
    nodes.launch(0, New).await;
    load.catches_up("a new one is in its place").await;
    nodes.replace(1, New).await;
    load.goes_on("all are new").await;
    load.ends_well(&nodes.api(1)).await;
    nodes.are_sound().await;
    nodes.stop();
}

#[actix::test]
#[ignore = "needs an older program: make test-upgrade OLD=REVISION"]
async fn a_data_directory_of_the_old_version_is_taken_over() {
    super::in_turn(&[Old, New, New]).await;
}
