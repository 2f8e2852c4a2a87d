//! Checks the tree itself: who imports whom, how long files and functions are, who alone may name a library.
//!
//! The rules are the tables below; `src/lib.rs` explains them. Each finding names file and line. Test modules at the end of a
//! file are not looked at.

use std::fs;
use std::path::{Path, PathBuf};

const MAX_FILE: usize = 400;
const MAX_FUNCTION: usize = 80;

/// Which top modules a top module may name. Its own is always allowed.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("mail", &[]),
    ("smtp", &["mail"]),
    ("clock", &[]),
    ("seldom", &[]),
    ("settings", &["mail"]),
    ("tls", &["settings"]),
    ("store", &["mail", "clock", "supervise", "seldom", "settings", "tls"]),
    ("cluster", &["mail", "store", "clock", "supervise", "seldom", "settings", "tls"]),
    ("handoff", &["mail"]),
    ("supervise", &["mail"]),
    ("inbound", &["mail", "smtp", "store", "cluster", "clock", "handoff", "supervise", "seldom", "settings"]),
    ("outbound", &["mail", "smtp", "store", "cluster", "clock", "handoff", "supervise", "seldom", "settings"]),
    ("accounts", &["mail", "store", "clock", "seldom", "settings"]),
    ("sockets", &["mail", "accounts", "cluster", "inbound", "clock", "seldom", "settings"]),
    (
        "web",
        &[
            "mail", "store", "accounts", "cluster", "handoff", "inbound", "outbound", "sockets", "clock", "seldom",
            "settings",
        ],
    ),
    ("startup", &["config"]),
    ("config", &["mail", "settings", "cluster", "inbound", "outbound", "store", "sockets", "web", "ops", "telemetry"]),
    ("telemetry", &["settings", "accounts", "cluster", "inbound", "outbound", "store", "sockets", "web"]),
    ("ops", &["accounts", "clock", "settings", "telemetry"]),
    (
        "cli",
        &[
            "accounts",
            "app",
            "cluster",
            "config",
            "inbound",
            "mail",
            "smtp",
            "clock",
            "settings",
            "startup",
            "store",
            "telemetry",
            "tls",
        ],
    ),
    ("main", &["cli"]),
];

/// Libraries that only some files may name, and why a reader can rely on it.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("sea_orm", &["store/"]),
    ("entity", &["store/"]),
    ("migration", &["store/"]),
    ("actix_web_actors", &["sockets/session.rs"]),
    ("mailin_embedded", &["cli/sink.rs"]),
    ("mail_parser", &["mail/"]),
    ("ammonia", &["mail/"]),
    ("smtp_proto", &["smtp/"]),
    ("deadpool_redis", &["cluster/"]),
    ("lapin", &["cluster/broker/"]),
    ("rustls", &["tls.rs"]),
];

/// Modules without actors, sockets, database, log, metrics or clock.
const PURE: &[&str] = &["mail/", "smtp/"];
const IMPURE: &[&str] = &["actix", "actix_web", "actix_rt", "tokio", "sea_orm", "tracing", "metrics", "awc", "socket2"];

/// One source file, its tests cut off, comments and strings blanked.
struct Source {
    /// Relative to `src`.
    path: String,
    lines: Vec<String>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let tests = text.find("\n#[cfg(test)]\nmod tests").map_or(text.len(), |at| at + 1);
        let code = text.get(..tests).unwrap_or(text);
        Self { path: path.replace('\\', "/"), lines: blank(code).lines().map(str::to_owned).collect() }
    }

    fn module(&self) -> &str {
        let top = self.path.split('/').next().unwrap_or_default();
        top.strip_suffix(".rs").unwrap_or(top)
    }

    fn finding(&self, line: usize, text: impl std::fmt::Display) -> String {
        format!("src/{}:{}: {text}", self.path, line + 1)
    }
}

/// Replaces what stands in comments, strings and character literals by blanks; keeps line ends.
fn blank(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest);
        let taken = if length == 0 { first.len_utf8() } else { length };
        let (now, later) = rest.split_at(taken);
        match length {
            0 => out.push(first),
            _ => out.extend(now.chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
        }
        // The character before decides whether `r"` begins a raw string: keep words whole.
        if length == 0 && (first.is_alphanumeric() || first == '_') {
            let word = later.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(later.len());
            let raw = matches!(&rest[..taken + word], "r" | "br") && later[word..].starts_with(['"', '#']);
            let (word, after) = later.split_at(word);
            out.push_str(word);
            rest = after;
            if raw {
                let length = raw_string(rest);
                let (string, after) = rest.split_at(length);
                out.extend(string.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = after;
            }
            continue;
        }
        rest = later;
    }
    out
}

/// Length of the comment, string or character literal at the beginning of `code`; 0 where there is none.
fn skipped(code: &str) -> usize {
    if code.starts_with("//") {
        return code.find('\n').unwrap_or(code.len());
    }
    if code.starts_with("/*") {
        return code.find("*/").map_or(code.len(), |at| at + 2);
    }
    if let Some(inner) = code.strip_prefix('"') {
        return 1 + quoted(inner, '"');
    }
    if let Some(inner) = code.strip_prefix('\'') {
        let mut chars = inner.chars();
        let is_char = match chars.next() {
            Some('\\') => true,
            Some(_) => chars.next() == Some('\''),
            None => false,
        };
        return if is_char { 1 + quoted(inner, '\'') } else { 0 };
    }
    0
}

fn quoted(inner: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == end => return at + c.len_utf8(),
            _ => {}
        }
    }
    inner.len()
}

/// Length of `"…"` or `#"…"#` with any number of `#`; 0 where that is no raw string after all (`r#name`).
fn raw_string(code: &str) -> usize {
    let hashes = code.bytes().take_while(|byte| *byte == b'#').count();
    if code.as_bytes().get(hashes) != Some(&b'"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    code[hashes + 1..].find(&end).map_or(code.len(), |at| hashes + 1 + at + end.len())
}

/// Words directly behind `prefix` in `line`; of `prefix{a, b::c}` the first word of each.
fn words_behind(line: &str, prefix: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let rest = &line[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(list) => found.extend(list.split(['}', ',']).map(|part| word(part.trim()))),
        }
    }
    found.retain(|word| !word.is_empty());
    found
}

fn imports(source: &Source) -> Vec<String> {
    let module = source.module();
    if matches!(module, "app" | "lib") {
        return Vec::new();
    }
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
        return vec![source.finding(0, format!("{module} is not in the table of tests/it/layering.rs"))];
    };
    let prefix = if module == "main" { "mailroom::" } else { "crate::" };
    let mut found = Vec::new();
    for (number, line) in source.lines.iter().enumerate() {
        for word in words_behind(line, prefix) {
            // A macro is named at the crate's root: `crate::settings!`.
            if word != module && !allowed.contains(&word.as_str()) {
                found.push(source.finding(number, format!("{module} may not import {word}")));
            }
        }
    }
    found
}

/// `crate::{` over several lines would hide what it imports from this test.
fn import_style(source: &Source) -> Vec<String> {
    let hidden = |line: &&String| line.trim_end().ends_with("crate::{");
    let lines = source.lines.iter().enumerate().filter(|(_, line)| hidden(line));
    lines.map(|(number, _)| source.finding(number, "one `use crate::module` a line")).collect()
}

fn names_library(line: &str, library: &str) -> bool {
    let path = format!("{library}::");
    let used = line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    });
    used || line.trim_start().starts_with(&format!("use {library};"))
}

fn libraries(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in source.lines.iter().enumerate() {
        for (library, places) in ONLY_IN {
            if names_library(line, library) && !places.iter().any(|place| source.path.starts_with(place)) {
                found.push(source.finding(number, format!("{library} belongs in {} alone", places.join(", "))));
            }
        }
        if PURE.iter().any(|place| source.path.starts_with(place)) {
            let impure = IMPURE.iter().filter(|library| names_library(line, library));
            found.extend(impure.map(|library| source.finding(number, format!("a pure module names {library}"))));
        }
    }
    found
}

fn lengths(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    if source.lines.len() > MAX_FILE {
        found.push(source.finding(0, format!("{} lines before its tests, at most {MAX_FILE}", source.lines.len())));
    }
    for (start, line) in source.lines.iter().enumerate() {
        if !is_function(line) {
            continue;
        }
        let length = function_length(&source.lines[start..]);
        if length > MAX_FUNCTION {
            found.push(source.finding(start, format!("a function of {length} lines, at most {MAX_FUNCTION}")));
        }
    }
    found
}

fn is_function(line: &str) -> bool {
    let words: Vec<_> = line.split_whitespace().collect();
    let Some(at) = words.iter().position(|word| *word == "fn") else { return false };
    words[..at].iter().all(|word| {
        word.starts_with("pub") || matches!(*word, "const" | "async" | "unsafe" | "extern" | "in" | "crate)" | "super)")
    })
}

/// Lines from the one with `fn` to the brace that closes it; 1 for a declaration without a body.
fn function_length(lines: &[String]) -> usize {
    let mut depth = 0_i32;
    for (number, line) in lines.iter().enumerate() {
        for c in line.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ';' if depth == 0 => return number + 1,
                _ => continue,
            }
            if depth == 0 && c == '}' {
                return number + 1;
            }
        }
    }
    lines.len()
}

fn all_findings(source: &Source) -> Vec<String> {
    [imports(source), import_style(source), libraries(source), lengths(source)].concat()
}

fn sources(root: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.into()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                // A folder `tests/` or a file `tests.rs` below src is a test module on its own.
                if !name.split(['/', '.']).any(|part| part == "tests") {
                    found.push(Source::new(name, &fs::read_to_string(&path).unwrap()));
                }
            }
        }
    }
    found
}

#[test]
fn the_tree_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = sources(&root);
    assert!(sources.len() > 50, "only {} files were found", sources.len());
    let findings: Vec<_> = sources.iter().flat_map(all_findings).collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn every_top_module_is_in_the_table() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    for module in modules.filter(|module| *module != "app") {
        assert!(MAY_IMPORT.iter().any(|(name, _)| *name == module), "{module}");
    }
}

fn findings(path: &str, text: &str) -> Vec<String> {
    all_findings(&Source::new(path, text))
}

#[test]
fn a_forbidden_import_is_found() {
    assert_eq!(findings("mail/x.rs", "use crate::store::Store;\n"), ["src/mail/x.rs:1: mail may not import store"]);
    assert_eq!(
        findings("inbound/x.rs", "\nfn f() { crate::web::start() }\n"),
        ["src/inbound/x.rs:2: inbound may not import web"]
    );
    assert_eq!(findings("smtp/x.rs", "use crate::{mail, store};\n"), ["src/smtp/x.rs:1: smtp may not import store"]);
    assert_eq!(findings("smtp/x.rs", "use crate::{\n    mail,\n};\n").len(), 1);
    assert_eq!(findings("novel/x.rs", "").len(), 1);
}

#[test]
fn allowed_imports_comments_strings_and_tests_are_not() {
    let text = "//! See crate::store.\nuse crate::mail::id;\n/* crate::web */\nconst A: &str = \"crate::app\";\n\
                const B: &str = r#\"crate::app \" \"#;\nconst C: char = '\"'; // crate::web\n\n\
                #[cfg(test)]\nmod tests {\n    use crate::store::Store;\n}\n";
    assert_eq!(findings("smtp/x.rs", text), Vec::<String>::new());
}

#[test]
fn a_library_out_of_its_place_is_found() {
    assert_eq!(
        findings("web/x.rs", "use sea_orm::EntityTrait;\n"),
        ["src/web/x.rs:1: sea_orm belongs in store/ alone"]
    );
    assert_eq!(findings("sockets/upgrade.rs", "use actix_web_actors::ws;\n").len(), 1);
    assert_eq!(findings("sockets/session.rs", "use actix_web_actors::ws;\n").len(), 0);
    assert_eq!(findings("store/x.rs", "use sea_orm::EntityTrait;\nuse entity::mailbox;\n").len(), 0);
    assert_eq!(
        findings("mail/x.rs", "fn f() { tokio::spawn(g()); }\n"),
        ["src/mail/x.rs:1: a pure module names tokio"]
    );
}

#[test]
fn a_long_file_and_a_long_function_are_found() {
    let file = "const A: u8 = 0;\n".repeat(401);
    assert_eq!(findings("mail/x.rs", &file), ["src/mail/x.rs:1: 401 lines before its tests, at most 400"]);
    let tests = format!("const A: u8 = 0;\n\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(500));
    assert_eq!(findings("mail/x.rs", &tests), Vec::<String>::new());

    let function = |lines: usize| format!("pub(crate) async fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
    assert_eq!(findings("mail/x.rs", &function(80)), Vec::<String>::new());
    assert_eq!(findings("mail/x.rs", &function(81)), ["src/mail/x.rs:1: a function of 81 lines, at most 80"]);
    let tricky = format!("fn f() {{\n    let a = '{{'; let b = \"}}\"; // }}\n{}}}\n", "    g();\n".repeat(79));
    assert_eq!(findings("mail/x.rs", &tricky).len(), 1);
}
