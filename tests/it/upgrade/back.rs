//! An older program that starts on tables that a newer one has prepared: when an upgrade is given up, and when a node that was not
//! replaced yet begins again.

use super::{New, Nodes, Old, said};
use crate::cluster::load::Load;
use crate::support::servers::RabbitMq;

#[actix::test]
#[ignore = "needs an older program: make test-upgrade OLD=REVISION"]
async fn new_nodes_are_replaced_by_old_ones_under_load() {
    let mut nodes = Nodes::start(&[Old; 3], Some(RabbitMq::start()), &[]).await;
    let load = Load::start(&nodes.doors()).await;
    load.goes_on("three old nodes").await;
    for n in 0..3 {
        nodes.replace(n, New).await;
    }
    load.goes_on("three new nodes").await;
    load.catches_up("three new nodes").await;
    for n in 0..3 {
        nodes.replace(n, Old).await;
        load.goes_on(&format!("{} of 3 are old again", n + 1)).await;
        load.catches_up(&format!("{} of 3 are old again", n + 1)).await;
    }
    load.ends_well(&nodes.api(0)).await;
    nodes.are_sound().await;
    nodes.stop();
}

#[actix::test]
#[ignore = "needs an older program: make test-upgrade OLD=REVISION"]
async fn an_old_node_begins_again_while_new_ones_run() {
    let mut nodes = Nodes::start(&[Old, Old, New], Some(RabbitMq::start()), &[]).await;
    let load = Load::start(&nodes.doors()).await;
    load.goes_on("two old nodes and a new one").await;
    nodes.kill(0);
    load.goes_on("an old one was killed").await;
    nodes.launch(0, Old).await;
    load.goes_on("it is back").await;
    load.catches_up("it is back").await;
    // Its commands too.
    let done = nodes.run(Old, &["migrate"]);
    assert!(done.status.success(), "{}", said(&done));
    load.ends_well(&nodes.api(0)).await;
    nodes.are_sound().await;
    nodes.stop();
}

#[actix::test]
#[ignore = "needs an older program: make test-upgrade OLD=REVISION"]
async fn a_data_directory_goes_back_and_forth() {
    super::in_turn(&[Old, New, Old, New, Old]).await;
}

#[actix::test]
#[ignore = "needs an older program: make test-upgrade OLD=REVISION"]
async fn bodies_that_the_old_one_moves_to_object_storage_the_new_one_reads() {
    super::beside::moved_by(0).await;
}
