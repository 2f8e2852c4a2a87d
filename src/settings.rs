//! How a stage declares its settings: once, each with its meaning and its default.
//!
//! `config.rs` of a stage writes a struct inside [`settings!`](crate::settings!). From that one text come the struct, its
//! `Default`, the names that the loader knows, the check of each value's type and the lines of `mailroom config example`.
//! Beside it stands its [`Check`]: which values will not do. Pure: std, serde, toml and `mail`.

mod listen;
mod network;
pub mod url;
mod wrong;

pub use listen::{Listen, ListenError};
pub use network::{Network, NetworkError};
pub use wrong::{Check, Wrong, is_domain};

use serde::{Serialize, de::DeserializeOwned};
use toml::Value;

/// One setting of a section.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key in the section's table.
    pub name: &'static str,
    /// Its doc comment, a line an item, each beginning with the blank after `///`.
    pub doc: &'static [&'static str],
}

/// A table of the configuration file.
pub trait Section: Check {
    /// The doc comment of the section.
    fn doc(&self) -> &'static [&'static str];
    /// Its settings, in the order they were declared.
    fn settings(&self) -> &'static [Setting];
    /// The present value of one; `None` where the name is unknown or the value is absent.
    fn get(&self, name: &str) -> Option<Value>;
    /// Replaces the value of one.
    ///
    /// # Errors
    /// [`SetError`] when there is no such setting or the value is not of its type; the section is then unchanged.
    fn set(&mut self, name: &str, value: Value) -> Result<(), SetError>;
}

/// Why a setting could not be given a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// The section has no such setting.
    #[error("no such setting")]
    Unknown,
    /// The value is of another type or out of range; says what is expected.
    #[error("{0}")]
    Value(String),
}

/// Reads `value` as a setting of type `T`.
///
/// # Errors
/// [`SetError::Value`] in the words of the type.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T, SetError> {
    // A URL may have come to a place that wants a number.
    value.try_into().map_err(|error: toml::de::Error| SetError::Value(url::scrubbed(&plain(error.message()))))
}

/// The value as the configuration file would have it.
pub fn show<T: Serialize>(value: &T) -> Option<Value> {
    Value::try_from(value).ok()
}

/// serde's names of Rust types in an operator's words.
fn plain(message: &str) -> String {
    let words = [
        ("u16", "a whole number from 0 to 65535"),
        ("u32", "a whole number"),
        ("u64", "a whole number"),
        ("usize", "a whole number"),
        ("nonzero u16", "a whole number above 0"),
        ("nonzero u32", "a whole number above 0"),
        ("a nonzero usize", "a whole number above 0"),
        ("f64", "a number"),
        ("a boolean", "true or false"),
        ("a sequence", "a list"),
        ("path string", "a path in quotes"),
        ("a string", "text in quotes"),
    ];
    match message.rsplit_once(", expected ") {
        Some((found, expected)) => match words.iter().find(|(name, _)| *name == expected.trim()) {
            Some((_, word)) => format!("{found}, expected {word}"),
            None => message.to_owned(),
        },
        None => message.to_owned(),
    }
}

/// Declares one section of the configuration.
///
/// ```
/// mailroom::settings! {
///     /// What this section is for.
///     pub struct ExampleConfig {
///         /// How many at once. More cost memory.
///         pub max_sessions: u32 = 2_000,
///     }
/// }
/// impl mailroom::settings::Check for ExampleConfig {
///     fn check(&self, wrong: &mut mailroom::settings::Wrong) {
///         wrong.least("max_sessions", self.max_sessions, 1);
///     }
/// }
/// assert_eq!(ExampleConfig::default().max_sessions, 2_000);
/// ```
#[macro_export]
macro_rules! settings {
    ($(#[doc = $about:expr])* $vis:vis struct $section:ident {
        $($(#[doc = $doc:expr])* pub $field:ident: $type:ty = $default:expr,)*
    }) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $section {
            $($(#[doc = $doc])* pub $field: $type,)*
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::settings::Section for $section {
            fn doc(&self) -> &'static [&'static str] {
                &[$($about),*]
            }

            fn settings(&self) -> &'static [$crate::settings::Setting] {
                &[$($crate::settings::Setting { name: stringify!($field), doc: &[$($doc),*] }),*]
            }

            fn get(&self, name: &str) -> Option<toml::Value> {
                match name {
                    $(stringify!($field) => $crate::settings::show(&self.$field),)*
                    _ => None,
                }
            }

            fn set(&mut self, name: &str, value: toml::Value) -> Result<(), $crate::settings::SetError> {
                match name {
                    $(stringify!($field) => self.$field = $crate::settings::read::<$type>(value)?,)*
                    _ => return Err($crate::settings::SetError::Unknown),
                }
                Ok(())
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::units::Period;

    settings! {
        /// A section.
        struct Sample {
            /// How many.
            ///
            /// More cost memory.
            pub count: u32 = 7,
            /// How long.
            pub wait: Period = Period::secs(30),
            /// Names.
            pub names: Vec<String> = vec!["a".into()],
        }
    }

    impl Check for Sample {
        fn check(&self, _: &mut Wrong) {}
    }

    #[test]
    fn a_section_knows_its_settings_docs_and_defaults() {
        let sample = Sample::default();
        assert_eq!(sample.doc(), [" A section."]);
        assert_eq!(sample.settings().iter().map(|s| s.name).collect::<Vec<_>>(), ["count", "wait", "names"]);
        assert_eq!(sample.settings()[0].doc, [" How many.", "", " More cost memory."]);
        assert_eq!(sample.get("wait"), Some(Value::from("30s")));
        assert_eq!(sample.get("other"), None);
    }

    #[test]
    fn a_value_of_the_right_type_is_taken() {
        let mut sample = Sample::default();
        sample.set("count", Value::Integer(9)).unwrap();
        sample.set("wait", Value::from("5m")).unwrap();
        assert_eq!((sample.count, sample.wait), (9, Period::minutes(5)));
    }

    #[test]
    fn a_value_of_another_type_is_refused_in_plain_words() {
        let mut sample = Sample::default();
        let error = sample.set("count", Value::from("lots")).unwrap_err();
        assert_eq!(error, SetError::Value("invalid type: string \"lots\", expected a whole number".into()));
        let error = sample.set("wait", Value::from("30")).unwrap_err().to_string();
        assert!(error.contains("\"30s\""), "{error}");
        assert_eq!(sample.set("cuont", Value::Integer(1)), Err(SetError::Unknown));
        assert_eq!(sample, Sample::default());
    }
}
