//! `mailroom config example`: every setting with its meaning and its default, as a file that can be edited.

use super::Config;
use crate::settings::Section;

const HEAD: &str = r#"# Mailroom: every setting, with its default behind a single '#'. Remove the '#' to change one.
#
# The same settings are read from the environment, which wins over this file: [smtp] max_sessions is
# MAILROOM__SMTP__MAX_SESSIONS=2000, and a list is MAILROOM__DOMAINS__ACCEPT='["example.com", "*.example.org"]', or a single
# item without brackets and quotes. Flags of the command line win over both.
"#;

/// The example file; with every `#name = value` line uncommented it reads back to the defaults.
#[must_use]
pub fn example() -> String {
    let config = Config::default();
    let mut out = String::from(HEAD);
    for (name, section) in config.sections() {
        out.push('\n');
        push_doc(&mut out, section.doc());
        out.push_str(&format!("[{name}]\n"));
        push_settings(&mut out, section);
    }
    out
}

fn push_settings(out: &mut String, section: &dyn Section) {
    for setting in section.settings() {
        out.push('\n');
        push_doc(out, setting.doc);
        match section.get(setting.name) {
            Some(value) => out.push_str(&format!("#{} = {value}\n", setting.name)),
            None => out.push_str(&format!("#{} = \"\"\n", setting.name)),
        }
    }
}

/// Doc comments are written for rustdoc too: the brackets of a link are dropped.
fn push_doc(out: &mut String, lines: &[&str]) {
    for line in lines {
        let text = line.replace("[`", "`").replace("`]", "`");
        out.push_str(format!("#{text}").trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::{Sources, load};
    use super::*;

    /// Lines that set something: `#name = value`, no blank after the `#`.
    fn setting_lines(text: &str) -> Vec<&str> {
        text.lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|rest| rest.starts_with(char::is_alphabetic))
            .collect()
    }

    fn uncommented(text: &str) -> String {
        let line = |line: &str| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(char::is_alphabetic) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn uncommented_it_reads_back_to_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("example.toml");
        std::fs::write(&path, uncommented(&example())).unwrap();
        let config = load(&Sources { file: Some(path), ..Sources::default() }).unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn every_setting_appears_once_and_is_explained() {
        let text = example();
        let count: usize = Config::default().sections().iter().map(|(_, section)| section.settings().len()).sum();
        assert_eq!(setting_lines(&text).len(), count);
        for (name, section) in Config::default().sections() {
            assert!(text.contains(&format!("\n[{name}]\n")), "[{name}]");
            assert!(!section.doc().is_empty(), "[{name}] has no doc comment");
            for setting in section.settings() {
                assert!(!setting.doc.is_empty(), "{name}.{} has no doc comment", setting.name);
                assert!(section.get(setting.name).is_some(), "{name}.{} has no default to show", setting.name);
            }
        }
    }

    #[test]
    fn every_field_of_the_structs_appears() {
        let text = example();
        let debug = format!("{:#?}", Config::default());
        let fields: Vec<_> = debug
            .lines()
            .filter(|line| line.starts_with("        ") && !line.starts_with("         "))
            .filter_map(|line| line.trim().split_once(": ").map(|(name, _)| name))
            .collect();
        assert!(fields.contains(&"arbiters"), "{debug}");
        for field in fields {
            assert!(text.contains(&format!("\n#{field} = ")), "{field}");
        }
    }

    #[test]
    fn as_printed_it_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("example.toml");
        std::fs::write(&path, example()).unwrap();
        assert_eq!(load(&Sources { file: Some(path), ..Sources::default() }).unwrap(), Config::default());
    }
}
