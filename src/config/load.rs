//! Configuration from its sources: defaults, then the TOML file, then the environment, then flags; the later one wins.
//!
//! Nothing is ignored: a key that is not known, in the file or in the environment, is a problem that names the nearest
//! known one. All problems are gathered before any is reported, each with the place it stands at.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Spanned, Value};

use super::Config;
use super::nearest::nearest;
use crate::settings::{Section, SetError};

/// Environment variables of the configuration begin with this; `__` separates section and key.
pub const PREFIX: &str = "MAILROOM__";

/// Where the configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file of `--config`.
    pub file: Option<PathBuf>,
    /// The environment; variables without the prefix are skipped.
    pub environment: Vec<(String, String)>,
    /// Flags of the command line that are short for a setting.
    pub flags: Vec<Flag>,
}

/// A flag that sets one setting.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As the user wrote it, with its dashes.
    pub name: &'static str,
    pub section: &'static str,
    pub key: &'static str,
    pub value: Value,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `mailroom.toml:12`, a variable's name or a flag.
    pub place: String,
    pub text: String,
}

/// Everything that is wrong with a configuration; displayed a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

/// Reads the configuration.
///
/// # Errors
/// All problems of all sources, in the order they stand in.
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    let mut config = Config::default();
    let mut problems = Vec::new();
    if let Some(path) = &sources.file {
        let place = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => problems.extend(apply_file(&mut config, &place, &text)),
            Err(error) => problems.push(Problem { place, text: format!("cannot be read: {error}") }),
        }
    }
    problems.extend(apply_environment(&mut config, &sources.environment));
    for flag in &sources.flags {
        let outcome = set(&mut config, flag.section, flag.key, flag.value.clone());
        problems.extend(outcome.err().map(|text| Problem { place: flag.name.into(), text }));
    }
    if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
}

fn apply_file(config: &mut Config, place: &str, text: &str) -> Vec<Problem> {
    let at = |span: std::ops::Range<usize>| {
        let line = text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1;
        (span.start, format!("{place}:{line}"))
    };
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut found: Vec<(usize, Problem)> = Vec::new();
    let mut add = |(start, place): (usize, String), text: String| found.push((start, Problem { place, text }));
    for error in errors {
        add(at(error.span().unwrap_or_default()), format!("not TOML: {}", error.message()));
    }
    for (name, value) in root.into_inner() {
        let (section, name_span) = (name.get_ref().to_string(), name.span());
        match value.into_inner() {
            DeValue::Table(table) if config.section_mut(&section).is_some() => {
                for (key, value) in table {
                    let outcome = to_value(value).and_then(|value| set(config, &section, key.get_ref(), value));
                    if let Err(text) = outcome {
                        add(at(key.span()), text);
                    }
                }
            }
            DeValue::Table(_) => add(at(name_span), unknown_section(config, &section)),
            _ if config.section_mut(&section).is_some() => {
                add(at(name_span), format!("{section} is a section: write [{section}] and its settings below"));
            }
            _ => add(at(name_span), unknown_key(config, "", &section)),
        }
    }
    found.sort_by_key(|(start, _)| *start);
    found.into_iter().map(|(_, problem)| problem).collect()
}

fn to_value(value: Spanned<DeValue<'_>>) -> Result<Value, String> {
    Value::deserialize(ValueDeserializer::from(value)).map_err(|error| error.message().to_owned())
}

fn apply_environment(config: &mut Config, environment: &[(String, String)]) -> Vec<Problem> {
    let mut ours: Vec<_> = environment.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    ours.sort();
    let mut problems = Vec::new();
    for (name, text) in ours {
        if let Err(text) = apply_variable(config, name.trim_start_matches(PREFIX), text) {
            problems.push(Problem { place: name.clone(), text });
        }
    }
    problems
}

/// A variable's text is a TOML value where it reads as one of the right type, else plain text, so that neither `2000` nor
/// `10MiB` needs quotes. An empty one is an empty list.
fn apply_variable(config: &mut Config, name: &str, text: &str) -> Result<(), String> {
    let lower = name.to_lowercase();
    let Some((section, key)) = lower.split_once("__") else {
        return Err(format!("name it {PREFIX}SECTION__SETTING, as in {PREFIX}LOG__LEVEL"));
    };
    let literal = ValueDeserializer::parse(text).ok().and_then(|value| Value::deserialize(value).ok());
    let plain = Value::String(text.to_owned());
    let nothing = text.is_empty().then(|| Value::Array(Vec::new()));
    let mut first = None;
    for value in literal.into_iter().chain([plain]).chain(nothing) {
        match set(config, section, key, value) {
            Ok(()) => return Ok(()),
            Err(error) => first = first.or(Some(error)),
        }
    }
    first.map_or(Ok(()), Err)
}

fn set(config: &mut Config, section: &str, key: &str, value: Value) -> Result<(), String> {
    let Some(table) = config.section_mut(section) else {
        return Err(unknown_section(config, section));
    };
    let alone = value.as_str().filter(|text| !text.is_empty()).map(|text| Value::Array(vec![text.into()]));
    let is_list = matches!(table.get(key), Some(Value::Array(_)));
    let set = match table.set(key, value) {
        // A list of one needs no brackets; what is wrong with it is wrong with its item.
        Err(SetError::Value(_)) if is_list && let Some(alone) = alone => table.set(key, alone),
        set => set,
    };
    match set {
        Ok(()) => Ok(()),
        Err(SetError::Unknown) => Err(unknown_key(config, section, key)),
        Err(SetError::Value(text)) => Err(wrong_value(section, key, &text)),
    }
}

fn wrong_value(section: &str, key: &str, text: &str) -> String {
    let default = Config::default();
    let example = default.sections().into_iter().find(|(name, _)| *name == section).and_then(|(_, s)| s.get(key));
    match example {
        Some(Value::Array(items)) if items.is_empty() => format!("{section}.{key}: {text}"),
        Some(example) => format!("{section}.{key}: {text}; for example {key} = {example}"),
        None => format!("{section}.{key}: {text}"),
    }
}

fn unknown_section(config: &Config, section: &str) -> String {
    let names: Vec<_> = config.sections().iter().map(|(name, _)| *name).collect();
    match nearest(section, names.iter().copied()) {
        Some(name) => format!("unknown section [{section}]; did you mean [{name}]?"),
        None => format!("unknown section [{section}]; there are {}", names.join(", ")),
    }
}

/// Names the nearest setting of the same section, else the section where one of this name is at home.
fn unknown_key(config: &Config, section: &str, key: &str) -> String {
    let sections = config.sections();
    let of = |table: &dyn Section| table.settings().iter().map(|setting| setting.name).collect::<Vec<_>>();
    let here = sections.iter().find(|(name, _)| *name == section).map(|(_, table)| of(*table)).unwrap_or_default();
    let label = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
    if let Some((home, _)) = sections.iter().find(|(_, table)| of(*table).contains(&key)) {
        return format!("unknown setting {label}; {key} belongs in [{home}]");
    }
    match nearest(key, here.iter().copied()) {
        Some(name) => format!("unknown setting {label}; did you mean {name}?"),
        None if section.is_empty() => format!("unknown setting {label}; settings stand in sections such as [log]"),
        None => format!("unknown setting {label}; [{section}] has {}", here.join(", ")),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::units::Period;

    fn file(text: &str) -> (Config, Vec<String>) {
        let mut config = Config::default();
        let problems = apply_file(&mut config, "m.toml", text);
        (config, problems.iter().map(ToString::to_string).collect())
    }

    fn environment(pairs: &[(&str, &str)]) -> Result<Config, Problems> {
        let environment = pairs.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        load(&Sources { environment, ..Sources::default() })
    }

    #[test]
    fn the_file_is_read_over_the_defaults() {
        let (config, problems) = file("[runtime]\nstop_within = \"5s\"\n\n[log]\nlevel = \"debug\"\n");
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(config.runtime.stop_within, Period::secs(5));
        assert_eq!(config.log.level, "debug");
        assert_eq!(config.ops, Config::default().ops);
    }

    #[test]
    fn an_unknown_key_names_file_line_and_the_nearest_one() {
        let (_, problems) = file("[runtime]\ndata = \"x\"\nstop_witin = \"5s\"\n");
        assert_eq!(problems, ["m.toml:3: unknown setting runtime.stop_witin; did you mean stop_within?"]);
    }

    #[test]
    fn a_key_in_the_wrong_section_is_sent_home() {
        let (_, problems) = file("level = \"x\"\n[runtime]\nlevel = \"debug\"\n");
        assert_eq!(
            problems,
            [
                "m.toml:1: unknown setting level; level belongs in [log]",
                "m.toml:3: unknown setting runtime.level; level belongs in [log]",
            ]
        );
    }

    #[test]
    fn an_unknown_section_names_the_nearest_one() {
        let (_, problems) = file("[runtme]\ndata = \"x\"\n");
        assert_eq!(problems, ["m.toml:1: unknown section [runtme]; did you mean [runtime]?"]);
    }

    #[test]
    fn a_wrong_type_says_what_is_expected_and_shows_an_example() {
        let (_, problems) = file("[runtime]\nstop_within = 5\n");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("runtime.stop_within: \"5\" is not a time such as"), "{problems:?}");
        assert!(problems[0].ends_with("for example stop_within = \"30s\""), "{problems:?}");
    }

    #[test]
    fn everything_wrong_is_reported_in_the_order_of_the_file() {
        let (_, problems) = file("[runtime]\nzata = 1\narbiters = \"x\"\n[log]\nlevel = 4\n");
        let lines: Vec<_> = problems.iter().map(|p| p.split(": ").next().unwrap()).collect();
        assert_eq!(lines, ["m.toml:2", "m.toml:3", "m.toml:5"]);
    }

    #[test]
    fn what_is_not_toml_names_its_line() {
        let (_, problems) = file("[runtime]\ndata = \n");
        assert!(problems[0].starts_with("m.toml:2: not TOML"), "{problems:?}");
    }

    #[test]
    fn the_environment_needs_no_quotes() {
        let config = environment(&[
            ("MAILROOM__RUNTIME__ARBITERS", "2"),
            ("MAILROOM__RUNTIME__STOP_WITHIN", "10s"),
            ("MAILROOM__RUNTIME__DATA", "/var/lib/mailroom"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(config.runtime.arbiters.get(), 2);
        assert_eq!(config.runtime.stop_within, Period::secs(10));
        assert_eq!(config.runtime.data, PathBuf::from("/var/lib/mailroom"));
    }

    #[test]
    fn a_list_of_one_needs_no_brackets() {
        let config = environment(&[
            ("MAILROOM__DOMAINS__ACCEPT", "example.com"),
            ("MAILROOM__SMTP__LISTEN", "2525"),
            ("MAILROOM__HTTP__ALLOWED_HOSTS", ""),
        ])
        .unwrap();
        assert_eq!(config.domains.accept, ["example.com"]);
        assert_eq!(config.smtp.listen, ["2525"]);
        assert!(config.http.allowed_hosts.is_empty());
        let two = environment(&[("MAILROOM__DOMAINS__ACCEPT", "[\"a.example\", \"b.example\"]")]).unwrap();
        assert_eq!(two.domains.accept, ["a.example", "b.example"]);
        let error = environment(&[("MAILROOM__SMTP__MAX_SESSIONS", "many")]).unwrap_err().to_string();
        assert!(error.contains("expected a whole number"), "{error}");
    }

    #[test]
    fn a_list_of_one_in_the_file_is_told_what_is_wrong_with_its_item() {
        let (config, problems) = file("[http]\ntrusted_proxies = \"10.0.0.2\"\nallowed_hosts = \"a.example\"\n");
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(config.http.trusted_proxies, ["10.0.0.2".parse().unwrap()]);
        assert_eq!(config.http.allowed_hosts, ["a.example"]);
        let (_, lone) = file("[http]\ntrusted_proxies = \"nginx\"\n");
        let (_, listed) = file("[http]\ntrusted_proxies = [\"nginx\"]\n");
        assert_eq!(lone, listed);
        assert!(lone[0].contains("\"nginx\" is not a network such as \"10.0.0.0/8\""), "{lone:?}");
        assert!(lone[0].contains("names are not looked up"), "{lone:?}");
        let error = environment(&[("MAILROOM__HTTP__TRUSTED_PROXIES", "nginx")]).unwrap_err().to_string();
        assert!(error.contains("\"nginx\" is not a network"), "{error}");
        let (_, number) = file("[http]\ntrusted_proxies = 5\n");
        assert!(number[0].ends_with("expected a list"), "{number:?}");
    }

    #[test]
    fn an_unknown_variable_is_a_problem_too() {
        let error = environment(&[("MAILROOM__RUNTIME__ARBITER", "2")]).unwrap_err().to_string();
        assert_eq!(error, "MAILROOM__RUNTIME__ARBITER: unknown setting runtime.arbiter; did you mean arbiters?");
        assert!(environment(&[("MAILROOM__DATA", "x")]).is_err());
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.toml");
        std::fs::write(&path, "[log]\nlevel = \"a\"\n[runtime]\ndata = \"a\"\nstop_within = \"1s\"\n").unwrap();
        let config = load(&Sources {
            file: Some(path),
            environment: vec![
                ("MAILROOM__LOG__LEVEL".into(), "b".into()),
                ("MAILROOM__RUNTIME__DATA".into(), "b".into()),
            ],
            flags: vec![Flag { name: "--data", section: "runtime", key: "data", value: "c".into() }],
        })
        .unwrap();
        assert_eq!(config.runtime.data, PathBuf::from("c"));
        assert_eq!(config.log.level, "b");
        assert_eq!(config.runtime.stop_within, Period::secs(1));
    }

    #[test]
    fn a_missing_file_is_one_clear_line() {
        let error = load(&Sources { file: Some("/nowhere/m.toml".into()), ..Sources::default() }).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/m.toml: cannot be read: "), "{error}");
    }
}
