//! The search index in a database server, beyond what `search` asks of every engine: the same answers whatever node keeps it,
//! however far it is behind, and whatever strangers write.

use mailroom::store::Scope;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use sea_orm::{ConnectionTrait, Statement, TransactionTrait};

use crate::search::{agrees, all, delivery, fill, found, found_by, indexed, mail, put, request, rows};
use crate::store_suite::support::{Engine, Fixture, key};
use crate::support::until;

/// Each of these on every engine that has the index in itself.
macro_rules! on_servers {
    ($($name:ident)*) => {
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(super::Engine::Postgres).await; })*
        }
        mod mariadb {
            $(#[tokio::test] async fn $name() { super::$name(super::Engine::MariaDb).await; })*
        }
    };
}

on_servers! {
    it_is_the_index_that_answers
    an_index_that_is_too_far_behind_is_made_again
    another_layout_is_made_again_and_a_newer_one_left_alone
    two_nodes_keep_one_index
    nobody_waits_for_a_node_that_stands_still
    hostile_words_are_found_like_others
    frequent_words_are_found_page_by_page
}

async fn it_is_the_index_that_answers(engine: Engine) {
    let fixture = Fixture::on(engine).await;
    for (to, text) in
        [("a@x.test", "quick brown"), ("a@x.test", "東京都"), ("a@x.test", "brown"), ("b@x.test", "brown")]
    {
        put(&fixture, &[to], &mail("subject", text)).await;
    }
    indexed(&fixture.store).await;
    // What is not in it, as nothing but this test can make it, is not found.
    fixture.database().sql("DELETE FROM search_words WHERE uid = 1").await;
    assert_eq!(found(&fixture.store, "a@x.test", "brown").await, [3]);
    assert_eq!(found_by(&fixture.store, &Scope::All, "brown OR 東京", 2).await.len(), 2);
}

async fn an_index_that_is_too_far_behind_is_made_again(engine: Engine) {
    let random = &mut StdRng::seed_from_u64(9);
    let mut fixture = Fixture::on(engine).await;
    let database = fixture.database();
    fill(&fixture, random, 200).await;
    indexed(&fixture.store).await;
    fixture.store.close().await;
    // As if a day had gone by without an indexer, in which one message went and another came.
    database.sql("DELETE FROM search_words WHERE uid % 3 = 0").await;
    database.sql("UPDATE search_words SET mailbox_id = mailbox_id + 1000000 WHERE uid % 5 = 0 AND uid % 3 <> 0").await;
    database.sql("UPDATE meta SET stream_floor = stamp").await;
    database.sql("UPDATE search_state SET position = position - 1").await;
    fixture.open().await;
    assert!(agrees(&fixture.store, random, 5).await > 10);
    fill(&fixture, random, 200).await;
    assert!(agrees(&fixture.store, random, 5).await > 10);
    indexed(&fixture.store).await;
    assert_eq!(rows(&fixture).await, all(&fixture.store).await);
    assert!(agrees(&fixture.store, random, 20).await > 100);
}

async fn another_layout_is_made_again_and_a_newer_one_left_alone(engine: Engine) {
    let random = &mut StdRng::seed_from_u64(10);
    let mut fixture = Fixture::on(engine).await;
    let database = fixture.database();
    fill(&fixture, random, 100).await;
    indexed(&fixture.store).await;
    for (version, remade) in [(0, true), (1_000, false)] {
        fixture.store.close().await;
        database.sql(&format!("UPDATE search_state SET version = {version}")).await;
        database.sql("UPDATE search_words SET uid = uid + 1000").await;
        fixture.open().await;
        assert!(agrees(&fixture.store, random, 5).await > 5);
        if remade {
            indexed(&fixture.store).await;
        }
        fill(&fixture, random, 20).await;
        assert!(agrees(&fixture.store, random, 5).await > 5);
        let of_this = database.sql("SELECT count(*) FROM search_state WHERE version = 1").await;
        assert_eq!(of_this.trim(), if remade { "1" } else { "0" });
    }
}

async fn two_nodes_keep_one_index(engine: Engine) {
    let random = &mut StdRng::seed_from_u64(11);
    let one = Fixture::on(engine).await;
    let url = one.database().url;
    let other = Fixture::with(|config| config.database.url = url).await;
    for _ in 0..4 {
        let others = &mut StdRng::seed_from_u64(random.random());
        tokio::join!(fill(&one, random, 60), fill(&other, others, 60));
        assert!(agrees(&other.store, random, 3).await > 5);
    }
    indexed(&one.store).await;
    indexed(&other.store).await;
    assert!(agrees(&one.store, random, 10).await > 50);
    // Who kept it goes; the other goes on.
    one.store.close().await;
    fill(&other, random, 60).await;
    indexed(&other.store).await;
    assert!(agrees(&other.store, random, 10).await > 50);
    assert_eq!(rows(&one).await, all(&other.store).await);
}

async fn nobody_waits_for_a_node_that_stands_still(engine: Engine) {
    let fixture = Fixture::on(engine).await;
    let database = fixture.database();
    put(&fixture, &["a@x.test"], &mail("one", "word")).await;
    indexed(&fixture.store).await;
    // Another node has the index and does nothing with it; here for a while, until its connection is ended in life.
    let other = sea_orm::Database::connect(&database.url).await.unwrap();
    let held = other.begin().await.unwrap();
    let locked = async || {
        let sql = "SELECT id FROM search_state FOR UPDATE SKIP LOCKED";
        held.query_one_raw(Statement::from_string(held.get_database_backend(), sql)).await.unwrap().is_some()
    };
    until("the state to be held", locked).await;
    put(&fixture, &["a@x.test"], &mail("two", "word")).await;
    assert_eq!(found(&fixture.store, "a@x.test", "word").await, [2, 1]);
    assert_eq!(found_by(&fixture.store, &Scope::All, "word", 1).await.len(), 2);
    assert!(fixture.store.status().index_lag > 0);
    held.rollback().await.unwrap();
    other.close().await.unwrap();
    indexed(&fixture.store).await;
    assert_eq!(rows(&fixture).await, 2);
}

async fn hostile_words_are_found_like_others(engine: Engine) {
    let random = &mut StdRng::seed_from_u64(12);
    let fixture = Fixture::on(engine).await;
    let database = fixture.database();
    let word = |random: &mut StdRng, letters: &[char], length: usize| -> String {
        (0..length).map(|_| *letters.choose(random).unwrap()).collect()
    };
    let many: String = (0..30_000).map(|n| format!("w{n} ")).collect();
    let long: Vec<String> = (0..20).map(|n| format!("{}{n}", "я".repeat(28 + n % 4))).collect();
    let ideographs: Vec<char> = ('\u{4e00}'..'\u{9fff}').collect();
    // More words than FULLTEXT is given of one message.
    let dense = word(random, &ideographs, 87_000);
    for text in [&many, &long.join(" "), &dense, "qahello zb70 M1 Bx zoo O", "the of to a www", &"x".repeat(70_000)] {
        put(&fixture, &["a@x.test"], &mail("hostile", text)).await;
    }
    put(&fixture, &["a@x.test"], &mail("plain", "hello")).await;
    indexed(&fixture.store).await;
    let partial = database.sql("SELECT count(*) FROM search_words WHERE NOT whole").await;
    assert_eq!(partial.trim(), if engine == Engine::MariaDb { "1" } else { "0" });
    let part: String = dense.chars().skip(5_000).take(3).collect();
    for (q, expected) in [
        ("w29999", vec![1]),
        ("w2999*", vec![1]),
        ("w30000", vec![]),
        (long[0].as_str(), vec![2]),
        (long[19].as_str(), vec![2]),
        (&format!("{}*", "я".repeat(31)), vec![2]),
        (&"я".repeat(31), vec![]),
        (&part, vec![3]),
        ("hello", vec![7]),
        ("qahello", vec![4]),
        ("zb70", vec![4]),
        ("www", vec![5]),
        (&"x".repeat(64), vec![6]),
        (&"x".repeat(63), vec![]),
        ("hostile -w1 -www -hello -qahello -xx*", vec![3, 2]),
    ] {
        assert_eq!(found(&fixture.store, "a@x.test", q).await, expected, "{q:.40}");
        let all = found_by(&fixture.store, &Scope::All, q, 3).await;
        assert_eq!(all.iter().map(|item| item.uid).collect::<Vec<_>>(), expected, "{q:.40} of all");
    }
}

async fn frequent_words_are_found_page_by_page(engine: Engine) {
    let fixture = Fixture::on(engine).await;
    let random = &mut StdRng::seed_from_u64(13);
    let mut expected = Vec::new();
    for round in 0..6 {
        let mut answers = Vec::new();
        for n in 0..500 {
            let rare = if random.random_range(0..200) == 0 { "rare" } else { "usual" };
            let (incoming, answer) = delivery(&["a@x.test"], &mail("s", &format!("every {rare}")));
            fixture.store.append(incoming).map_err(drop).unwrap();
            answers.push(answer);
            if rare == "rare" {
                expected.push(round * 500 + n + 1);
            }
        }
        for answer in answers {
            answer.await.unwrap().unwrap();
        }
    }
    indexed(&fixture.store).await;
    expected.reverse();
    for scope in [Scope::All, Scope::Mailbox(key("a@x.test"))] {
        // However many there are: the first page is full.
        for q in ["every", "-nothing", "every -rare"] {
            let page = fixture.store.list(&request(&scope, q, 50, None)).await.unwrap();
            assert_eq!((page.items.len(), page.next.is_some()), (50, true), "{q} in {scope:?}");
        }
        let found: Vec<u64> = found_by(&fixture.store, &scope, "rare", 5).await.iter().map(|item| item.uid).collect();
        assert_eq!(found, expected);
        let found: Vec<u64> =
            found_by(&fixture.store, &scope, "every", 900).await.iter().map(|item| item.uid).collect();
        assert_eq!(found, (1..=3_000).rev().collect::<Vec<u64>>());
        assert_eq!(found_by(&fixture.store, &scope, "every -usual", 50).await.len(), expected.len());
    }
}
