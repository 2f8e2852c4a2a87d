//! Local parts of generated addresses: two words and a number, easy to read out and to tell apart (`quiet-otter-4831`).

use rand::Rng;
use rand::seq::IndexedRandom;

const HOW: [&str; 40] = [
    "amber", "bold", "brave", "bright", "calm", "clever", "cosmic", "crisp", "eager", "fast", "fancy", "gentle",
    "giant", "golden", "happy", "humble", "icy", "jolly", "keen", "kind", "lively", "lucky", "mellow", "merry",
    "misty", "noble", "odd", "proud", "quick", "quiet", "rapid", "royal", "shy", "silver", "sunny", "swift", "tidy",
    "vivid", "warm", "wise",
];

const WHO: [&str; 40] = [
    "badger", "beaver", "bison", "cobra", "condor", "cougar", "crane", "dingo", "eagle", "falcon", "ferret", "finch",
    "fox", "gecko", "goose", "hare", "heron", "ibex", "jaguar", "koala", "lemur", "lynx", "magpie", "marten", "mole",
    "moose", "newt", "otter", "owl", "panda", "puffin", "quail", "raven", "robin", "seal", "stork", "tiger", "viper",
    "walrus", "wombat",
];

/// One of 14.4 million: enough not to meet, no secret.
#[must_use]
pub fn local_part() -> String {
    let mut random = rand::rng();
    let how = HOW.choose(&mut random).copied().unwrap_or("calm");
    let who = WHO.choose(&mut random).copied().unwrap_or("otter");
    format!("{how}-{who}-{}", random.random_range(1_000..10_000))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::mail::address::{MailboxKey, Plus};

    #[test]
    fn every_word_makes_an_address_of_its_own() {
        assert_eq!(HOW.iter().chain(&WHO).collect::<HashSet<_>>().len(), HOW.len() + WHO.len());
        for _ in 0..100 {
            let address = format!("{}@x.test", local_part());
            assert_eq!(MailboxKey::parse(&address, Plus::Same).unwrap().as_str(), address);
        }
    }
}
