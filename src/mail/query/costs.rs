//! What hostile texts and searches may cost.

use std::time::Duration;

use super::sample::listed;
use super::*;

/// Repeated to ten mebibytes; each is what some step could stumble over.
const REPEATED: &[&str] = &[
    "a",
    "a ",
    "aA1 ",
    " ",
    "é",
    "\u{301}",
    "a\u{301}\u{316}\u{327}",
    "\u{327}\u{316}\u{301}",
    "\u{1100}\u{1161}\u{11a8}",
    "\u{fdfa}",
    "\u{1d160}",
    "東",
    "東京 ",
    "が",
    "か\u{3099}",
    "\u{200d}",
    "\u{ad}a",
    "👨\u{200d}👩",
    "（",
    "ß",
    "\u{e000}",
    "\"",
    "สวัสดี",
    "ﬃ",
];

/// What this thread has used, so that a busy machine fails nothing.
fn processor_time() -> Duration {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedule.split(' ').next().unwrap().parse().unwrap())
}

fn costs(work: impl FnOnce()) -> Duration {
    let started = processor_time();
    work();
    processor_time() - started
}

#[test]
fn any_text_is_cut_into_words_in_linear_time() {
    let listed = listed("", "", &[]);
    for repeated in REPEATED {
        let text = repeated.repeat((10 << 20) / repeated.len());
        let took = costs(|| drop(index_columns(&listed, &text, &mut Seen::default())));
        // Thirty milliseconds without optimisation; what is quadratic takes minutes.
        assert!(took < Duration::from_secs(2), "{repeated:?} took {took:?}");
    }
}

/// Words that want the same place in the table, and more of them than it has.
#[test]
fn the_table_of_words_is_no_list() {
    let listed = listed("", "", &[]);
    let text: String = (0..60_000).map(|n| format!("{n:x} ")).collect();
    let took = costs(|| drop(index_columns(&listed, &text, &mut Seen::default())));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn the_longest_searches_cost_little_for_a_large_message() {
    let listed = listed("", "", &[]);
    let text = "aa ab ".repeat(2 << 20);
    let searches = [
        "-".repeat(2_048),
        "a* ".repeat(64),
        "\"a\"*".repeat(64),
        (0..64).map(|n| format!("\"{}\" ", "aa ab ".repeat(n % 5))).collect(),
        format!("\"{}b\"", "aa ab ".repeat(300)),
        (0..16).map(|_| "aa OR \"aa ab c\"*".to_owned()).collect::<Vec<_>>().join(" OR "),
        "-\"ab aa b\" ".repeat(64),
        "東".repeat(600),
        "\u{fdfa}".repeat(600),
    ];
    for search in searches {
        let took = costs(|| {
            if let Ok(query) = Query::parse(&search) {
                let _ = (query.fts(), query.unsettled(), query.matches(&Candidate { listed: &listed, text: &text }));
            }
        });
        assert!(took < Duration::from_secs(2), "{:?} took {took:?}", search.get(..20));
    }
}
