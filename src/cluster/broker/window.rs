//! What a consumer has taken from a queue and not settled, in the order it came. Pure.
//!
//! It says how what is done can be acknowledged in few words: all up to a place at once, and what lies beyond each by itself, so
//! that one that takes long holds up nobody.

use std::collections::VecDeque;

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Somebody has it and will tell.
    Asked,
    /// It could not be given to anyone, and is to be tried again.
    Again,
    /// The database did not take it.
    Failed,
    /// It failed by itself, which counts after a pause.
    Paused,
    /// It is safe elsewhere, the broker need not keep it.
    Done,
    /// The broker was told, and forgets it.
    Settled,
}

/// A message that was taken.
#[derive(Debug)]
pub struct Held {
    /// The broker's number for it on this channel.
    pub tag: u64,
    /// As it lies in the queue.
    pub data: Vec<u8>,
    /// How often it failed by itself before.
    pub failed: u32,
    pub state: State,
}

/// To be told to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub tag: u64,
    /// And all before it.
    pub multiple: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Window(VecDeque<Held>);

impl Window {
    pub fn push(&mut self, held: Held) {
        self.0.push_back(held);
    }

    pub fn get(&mut self, tag: u64) -> Option<&mut Held> {
        let index = self.0.binary_search_by_key(&tag, |held| held.tag).ok()?;
        self.0.get_mut(index)
    }

    pub fn peek(&self, tag: u64) -> Option<&Held> {
        let index = self.0.binary_search_by_key(&tag, |held| held.tag).ok()?;
        self.0.get(index)
    }

    /// A message is where `state` says.
    pub fn set(&mut self, tag: u64, state: State) {
        if let Some(held) = self.get(tag) {
            held.state = state;
        }
    }

    /// The numbers of those in this state, in order.
    pub fn tags(&self, state: State) -> Vec<u64> {
        self.0.iter().filter(|held| held.state == state).map(|held| held.tag).collect()
    }

    /// The first in this state.
    pub fn first(&self, state: State) -> Option<u64> {
        self.0.iter().find(|held| held.state == state).map(|held| held.tag)
    }

    /// Whether any is in this state.
    pub fn has(&self, state: State) -> bool {
        self.0.iter().any(|held| held.state == state)
    }

    /// How many the broker has to keep.
    pub fn unsettled(&self) -> usize {
        self.0.iter().filter(|held| !matches!(held.state, State::Done | State::Settled)).count()
    }

    /// What to acknowledge now, and how many messages that is; they are settled afterwards. What is settled with all before it
    /// is forgotten: how many that are now.
    pub fn acknowledge(&mut self) -> (Vec<Ack>, usize, u64) {
        let (mut acks, mut done, mut passed) = (Vec::new(), 0, 0);
        let mut last = None;
        while let Some(held) = self.0.front() {
            match held.state {
                State::Done => {
                    done += 1;
                    passed += 1;
                    last = Some(held.tag);
                }
                State::Settled => passed += 1,
                State::Asked | State::Again | State::Failed | State::Paused => break,
            }
            self.0.pop_front();
        }
        acks.extend(last.map(|tag| Ack { tag, multiple: true }));
        for held in self.0.iter_mut().filter(|held| held.state == State::Done) {
            held.state = State::Settled;
            done += 1;
            acks.push(Ack { tag: held.tag, multiple: false });
        }
        (acks, done, passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(states: &[State]) -> Window {
        let held = |(tag, state): (u64, &State)| Held { tag, data: Vec::new(), failed: 0, state: *state };
        Window((1..).zip(states).map(held).collect())
    }

    fn ack(tag: u64, multiple: bool) -> Ack {
        Ack { tag, multiple }
    }

    #[test]
    fn what_is_done_in_order_is_one_acknowledgement() {
        let mut window = window(&[State::Done, State::Settled, State::Done, State::Asked]);
        assert_eq!(window.acknowledge(), (vec![ack(3, true)], 2, 3));
        assert_eq!(window.tags(State::Asked), [4]);
        assert_eq!(window.acknowledge(), (vec![], 0, 0));
    }

    #[test]
    fn one_that_takes_long_holds_up_nobody_and_is_not_acknowledged_with_others() {
        let mut window = window(&[State::Done, State::Asked, State::Done, State::Failed, State::Done]);
        assert_eq!(window.acknowledge(), (vec![ack(1, true), ack(3, false), ack(5, false)], 3, 1));
        window.set(2, State::Done);
        assert_eq!(window.acknowledge(), (vec![ack(2, true)], 1, 2));
        window.set(4, State::Settled);
        assert_eq!(window.acknowledge(), (vec![], 0, 2));
        assert!(window.0.is_empty());
    }
}
