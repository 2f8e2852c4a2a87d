//! What a hostile page may cost the sanitiser.

use std::time::Duration;

use super::*;

const NONE: HtmlContext<'static> = HtmlContext { attachment: &|_| None, remote: true };

/// Repeated to a mebibyte, each was quadratic or deep for some parser.
const REPEATED: &[(&str, &str)] = &[
    ("", "<div>"),
    ("", "<b>"),
    ("", "<p>"),
    ("", "<p><b>"),
    ("", "<a>"),
    ("", "<a href=#><p>"),
    ("", "<font size=1><p>"),
    ("", "<b><p></b>"),
    ("", "<table>"),
    ("", "<table><td>"),
    ("", "<table><tr><td><b>"),
    ("<table>", "<br>"),
    ("<table>", "a<b>"),
    ("", "<div><table></div></table>"),
    ("", "<svg>"),
    ("", "<template>"),
    ("", "<select>"),
    ("", "<math><mi>"),
    ("", "<li><ul>"),
    ("", "<!--"),
    ("", "<!---->"),
    ("", "<!----!>"),
    ("", "<![CDATA["),
    ("", "<"),
    ("", "</"),
    ("", "<a "),
    ("", "<a b='"),
    ("<a ", "a b c "),
    ("<a ", "href=x "),
    ("<p ", "'"),
    ("", "</b>"),
    ("", "</p>"),
    ("", "<script>"),
    ("", "<style>"),
    ("", "<style></style>"),
    ("", "<style media=a></style>"),
    ("<style>", "@import"),
    ("<style>", "url("),
    ("<style>", "/*"),
    ("<style>", "'\n"),
    ("<style>", "\\"),
    ("<style>", "{"),
    ("<style>", "@font-face{"),
    ("<p style='", "url(a)"),
    ("", "<p style='a:b'>"),
    ("", "&"),
    ("", "& "),
    ("", "&a;"),
    ("", "&nbsp;"),
    ("", "\u{a0}"),
    ("<p title='", "&"),
    ("<a href=\"", "&#x"),
    ("", "<html a><body b>"),
    ("", "<i><b><u><s><tt>"),
    ("", "<nobr>"),
    ("", "<h1><b>"),
    ("", "<center><p>"),
    ("", "<b a=1><p>x</p>"),
];

/// What this thread has used, so that a busy machine fails nothing.
fn processor_time() -> Duration {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedule.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn takes_linear_time_and_little_stack() {
    let work = |thread: usize| {
        for (before, repeated) in REPEATED.iter().skip(thread).step_by(4) {
            let html = format!("{before}{}", repeated.repeat((MAX_HTML_BYTES / 2 - before.len()) / repeated.len()));
            let started = processor_time();
            match sanitize(&html, &NONE) {
                Ok(safe) => assert!(safe.html.len() < 24 * html.len(), "{repeated:?} gives {}", safe.html.len()),
                Err(error) => assert_eq!(error, NotShown::TooBroken),
            }
            // A second without optimisation at most; what is quadratic takes several, or minutes.
            let took = processor_time() - started;
            assert!(took < Duration::from_secs(4), "{repeated:?} took {took:?}");
        }
    };
    let threads: Vec<_> = (0..4)
        .map(|thread| std::thread::Builder::new().stack_size(256 * 1024).spawn(move || work(thread)).unwrap())
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn deep_nesting_keeps_its_text() {
    let html = format!("{}deep{}after", "<div>".repeat(90_000), "</div>".repeat(90_000));
    let safe = sanitize(&html, &NONE).unwrap().html;
    assert!(safe.contains("deep") && safe.ends_with("after"));
    assert!(safe.matches("<div>").count() <= 200);
}
