//! Values that are well formed and would break the server all the same.
//!
//! `config.rs` of each stage says of its own settings which will do ([`Check`]); `config::check` asks all of them, for
//! `serve`, `config check` and `doctor` alike. What lies between two sections is asked there.

use std::fmt::{Debug, Display};

use crate::mail::address::Address;

/// Says which values of a section will not do.
pub trait Check {
    fn check(&self, wrong: &mut Wrong);
}

/// What was found in one section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wrong(Vec<(&'static str, String)>);

impl Wrong {
    /// Everything of one section: the setting, and what to say of it.
    pub fn of(section: &(impl Check + ?Sized)) -> Vec<(&'static str, String)> {
        let mut wrong = Self::default();
        section.check(&mut wrong);
        wrong.0
    }

    /// `found` as the operator reads it, and what would do instead.
    pub fn refuse(&mut self, setting: &'static str, found: impl Display, possible: impl Display) {
        self.0.push((setting, format!("{found} will not do; possible: {possible}")));
    }

    /// A text shown in quotes.
    pub fn refuse_text(&mut self, setting: &'static str, found: impl Debug, possible: impl Display) {
        self.refuse(setting, format_args!("{found:?}"), possible);
    }

    /// Refuses what is below `least`.
    pub fn least<T: PartialOrd + Display>(&mut self, setting: &'static str, value: T, least: T) {
        if value < least {
            self.refuse(setting, value, format_args!("{least} or more"));
        }
    }

    /// Refuses what is below `least` or above `most`.
    pub fn within<T: PartialOrd + Display>(&mut self, setting: &'static str, value: T, least: T, most: T) {
        if value < least || value > most {
            self.refuse(setting, value, format_args!("{least} to {most}"));
        }
    }
}

/// Whether mail can be addressed to this domain: a name, in Unicode or as A-labels, or an address literal.
#[must_use]
pub fn is_domain(name: &str) -> bool {
    Address::parse(&format!("postmaster@{name}")).is_ok_and(|address| address.domain() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::units::Period;

    #[test]
    fn says_what_was_found_and_what_is_possible() {
        let mut wrong = Wrong::default();
        wrong.least("a", 0, 1);
        wrong.least("b", Period::secs(1), Period::secs(1));
        wrong.within("c", 500, 0, 100);
        wrong.refuse_text("d", "x y", "a name");
        let found: Vec<_> = wrong.0.iter().map(|(setting, text)| format!("{setting}: {text}")).collect();
        assert_eq!(
            found,
            [
                "a: 0 will not do; possible: 1 or more",
                "c: 500 will not do; possible: 0 to 100",
                "d: \"x y\" will not do; possible: a name",
            ]
        );
    }

    #[test]
    fn a_domain_is_a_name_that_mail_can_be_addressed_to() {
        for name in ["example.com", "localhost", "bücher.example", "xn--bcher-kva.example", "[127.0.0.1]"] {
            assert!(is_domain(name), "{name}");
        }
        for name in ["", "a@b.c", "ex ample.com", "a b", "*.example.com", "http://x", "x/y", "a.b,c.d", "x\n"] {
            assert!(!is_domain(name), "{name}");
        }
    }
}
