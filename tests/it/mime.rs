//! Every sample message through the readers of mail: nothing panics, nothing takes long, and what is known of a
//! message is found in it. `tests/mail/` is the project's own; `../shared/corpus/` (or `MAILROOM_CORPUS`) is read where
//! it is there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mailroom::mail::parsed::{self, Parsed};
use mailroom::mail::structure;
use mailroom::mail::summary::{Parse, Summary, summarize, summarize_headers};

/// For a debug build on a busy machine; a message takes microseconds in a release build.
const PATIENCE: Duration = Duration::from_secs(10);

/// File, subject, attachments, start of the preview.
const EXPECTED: &[(&str, &str, u32, &str)] = &[
    ("alternative", "Alternative", 0, "Plain version."),
    ("alternative_blank_text", "Blank text", 0, "Html alone says it."),
    ("amp", "AMP", 0, "Plain."),
    ("attachments", "Attachments", 3, "See attached."),
    ("bare_lf", "Bare LF", 1, "One."),
    ("base64_broken", "Broken base64", 0, "Hello, world."),
    ("big5", "Big5 mail", 0, "繁體中文郵件"),
    ("binary", "Binary", 0, "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\"),
    ("binary_headers", "Binary header", 0, "text"),
    ("boundary_missing", "No boundary", 0, "--x Still readable. --x--"),
    ("boundary_never_closed", "Never closed", 1, "Never closed."),
    ("boundary_never_found", "Wrong boundary", 0, "--other The text is here. --other--"),
    ("boundary_prefix", "Prefix", 0, "Inner. Outer."),
    ("boundary_reused", "Same boundary", 0, "One. Two."),
    ("boundary_strange", "Strange boundary", 0, "Strange boundary."),
    ("broken_header_line", "Broken block", 0, "this is no header X: y text"),
    ("calendar_invite", "Invitation: Review", 1, "You are invited."),
    ("calendar_only", "Accepted: Review", 1, ""),
    ("charset_missing_base64", "No charset", 0, "Smörgåsbord"),
    ("charset_unknown", "Martian", 0, "plain ünïcode"),
    ("comments_in_headers", "Comments", 0, "text"),
    ("content_type_garbage", "Garbage type", 0, "Readable all the same."),
    ("date_odd", "Odd date", 0, "text"),
    (
        "delivery_report",
        "Undelivered Mail Returned to Sender",
        1,
        "Your message could not be delivered to nobody@example.net.",
    ),
    ("delivery_report_200", "200 failures", 0, "200 recipients failed."),
    ("digest", "List digest", 2, "An administrative note."),
    ("duplicate_headers", "First", 0, "text"),
    ("eai", "国際化", 0, "多言語"),
    ("empty", "", 0, ""),
    ("empty_subject", "", 0, "text"),
    ("encrypted_pgp", "Encrypted", 2, ""),
    ("euc_kr", "Korean", 0, "안녕하세요"),
    ("folded_everywhere", "Folded subject with three lines", 0, "text"),
    ("format_flowed", "Flowed", 0, "This paragraph goes on over three lines."),
    ("format_flowed_delsp", "Flowed Chinese", 0, "你好"),
    ("forwarded", "Fwd: Original", 1, "See below."),
    ("gb18030", "你好，世界", 0, "您的验证码是 482913。"),
    ("groups", "Groups", 0, "text"),
    ("headers_only", "Only headers", 0, ""),
    ("headers_only_crlf", "No body", 0, ""),
    ("hostile_names", "Hostile names", 8, "Bad names."),
    ("html_around_attachment", "Apple style", 1, "See the file."),
    ("html_inline_image", "Inline picture", 0, "A picture:"),
    ("html_only", "Your code", 0, "Dear Bob, your code is 482913."),
    ("huge_to", "Huge lists", 0, "text"),
    ("iso_2022_jp", "会議のお知らせ", 0, "明日の会議は十時からです。"),
    ("koi8_r", "Привет", 0, "Добрый день!"),
    ("long_line", "Long line", 0, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
    ("many_crlf", "", 0, ""),
    ("many_received", "Many hops", 0, "text"),
    ("mbox_from_line", "From an mbox", 0, "text"),
    ("mixed_related_alternative", "Nested as usual", 1, "Text."),
    ("multipart_empty", "Empty multipart", 0, ""),
    ("nested_120_messages", "Too deep", 0, ""),
    ("nested_30_multiparts", "Nested 30", 0, "The innermost text."),
    ("no_headers", "", 0, "Hello, this message has no headers. Not one."),
    ("no_subject", "", 0, "text"),
    ("only_crlf", "", 0, ""),
    ("outlook_reply", "RE: Tomorrow", 0, "Fine with me."),
    ("parts_empty", "Empty parts", 0, ""),
    ("plain", "The report", 0, "Hello Bob, the report is ready. Ann"),
    ("plain_declared", "Declared", 0, "Grüße aus Köln. 你好。"),
    ("preamble_epilogue", "Preamble", 0, "Between."),
    ("preheader_padding", "Newsletter", 0, "News of the week The first article."),
    ("quoted_printable", "Quoted-printable", 0, "A line that is softly broken, 1+1=2, and café."),
    ("quoted_printable_broken", "Broken QP", 0, "100=% sure, =ZZ and =4"),
    ("read_receipt", "Read: hello", 0, "Your message was read."),
    ("reply_quoted", "Re: ready?", 0, "Yes, it is."),
    ("rfc2047_broken", "=?utf-8?Q?open =?utf-8?X?abc?= word", 0, "text"),
    ("rfc2047_everywhere", "Übersicht für März", 0, "text"),
    ("rfc2047_no_space", "aäbö", 0, "text"),
    ("rfc2047_split", "café テスト", 0, "text"),
    ("rfc2231_names", "Names", 6, "Names."),
    ("rfc822_base64", "Encoded nested", 1, ""),
    ("rfc822_root", "Wrapper", 0, "Nested text."),
    ("signed_pgp", "Signed", 0, "Signed text."),
    ("space_before_colon", "Spaced out", 0, "text"),
    ("starts_with_empty_line", "", 0, "Subject: not a header"),
    ("subject_8bit_latin1", "Grüße", 0, "naïve café"),
    ("subject_8bit_utf8", "Grüße 你好 🎉", 0, "text"),
    ("subject_controls", "a [31mb gpj.exe c", 0, "text"),
    ("subject_long", "wordwordwordwordwordwordwordwordwordwordwordwordwordwordword", 0, "text"),
    ("unterminated_quotes", "Unterminated", 0, "text"),
    ("upper_case", "UPPER", 0, "HELLO"),
    ("utf_16", "UTF-16", 0, "Sechzehn Bit"),
    ("utf_7", "UTF-7", 0, "Hi Mom ☺!"),
    ("uuencode", "uuencoded", 0, "Here it is: begin 644 hello.txt %:&5L;&\\* ` end"),
    ("vcard", "Card", 1, "My card."),
    ("windows_1251_undeclared_as_ascii", "Euro", 0, "price 10 €"),
    ("winmail_dat", "Winmail", 1, "Sent by Outlook."),
];

fn read_all(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder can be listed").path())
        .filter(|path| path.is_file() && path.extension().is_none_or(|ending| ending != "md"))
        .map(|path| (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn own() -> Vec<(String, Vec<u8>)> {
    read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail"))
}

/// Runs everything on `raw` on a small stack and checks what holds for every message.
fn check(name: &str, raw: &[u8]) -> (Summary, Parsed) {
    let owned = raw.to_vec();
    let begun = Instant::now();
    let read = std::thread::Builder::new()
        .stack_size(512 * 1024)
        .spawn(move || {
            let (summary, parsed) = (summarize(&owned), parsed::parse(&owned));
            for attachment in &parsed.attachments {
                let content = parsed::attachment(&owned, attachment.n).expect("a listed attachment can be fetched");
                assert_eq!(content.octets.len(), attachment.size);
                assert_eq!(content.name, attachment.name);
                assert!(!content.name.contains(['/', '\\']) && !content.name.contains(char::is_control));
            }
            assert!(parsed::attachment(&owned, parsed.attachments.len()).is_none());
            (summary, parsed)
        })
        .expect("a thread starts")
        .join();
    let (summary, parsed) = read.unwrap_or_else(|_| panic!("{name}: panicked"));
    assert!(begun.elapsed() < PATIENCE, "{name}: took {:?}", begun.elapsed());

    // List and message agree.
    assert_eq!(*summary.subject, parsed.subject, "{name}");
    assert_eq!(summary.parse, parsed.parse, "{name}");
    assert_eq!(summary.date, parsed.date, "{name}");
    let counted = parsed.attachments.iter().filter(|attachment| !attachment.inline).count();
    assert_eq!(summary.attachments as usize, counted, "{name}");
    assert_eq!(summarize_headers(raw).subject, summary.subject, "{name}");
    // Bounded and clean.
    assert!(summary.subject.chars().count() <= 1_000 && summary.preview.chars().count() <= 200, "{name}");
    assert!(summary.to.len() <= 50 && summary.text.len() <= 256 * 1024, "{name}");
    let parties = summary.to.iter().chain(summary.from.as_deref());
    let shown = parties.flat_map(|party| [&party.name, &party.address]).flatten().map(String::as_str);
    for text in shown.chain([&*summary.subject, &*summary.preview]) {
        assert!(!text.contains(|c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)), "{name}: {text:?}");
    }
    assert!(!summary.text.contains('\0') && !parsed.text.contains('\0'), "{name}");
    serde_json::to_string(&parsed).unwrap_or_else(|error| panic!("{name}: {error}"));
    (summary, parsed)
}

#[test]
fn reads_the_projects_own_messages_as_expected() {
    let files = own();
    assert!(files.len() >= 60, "only {} messages", files.len());
    for (name, raw) in &files {
        let (summary, _) = check(name, raw);
        let expected = EXPECTED.iter().find(|(file, ..)| format!("{file}.eml") == *name);
        let (_, subject, attachments, preview) = expected.unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(summary.subject.chars().take(60).collect::<String>(), *subject, "{name}");
        assert_eq!(summary.attachments, *attachments, "{name}");
        assert_eq!(summary.preview.chars().take(60).collect::<String>(), *preview, "{name}");
        let parse = if name == "nested_120_messages.eml" { Parse::HeadersOnly } else { Parse::Whole };
        assert_eq!(summary.parse, parse, "{name}");
    }
    assert_eq!(files.len(), EXPECTED.len(), "a message of the table is missing");
}

/// The readers see each message as if it were cut off at any place; a prefix must not trouble them.
#[test]
fn reads_messages_that_were_cut_anywhere() {
    for (name, raw) in own() {
        let step = (raw.len() / 40).max(1);
        for end in (0..raw.len()).step_by(step) {
            let cut = &raw[..end];
            let (summary, parsed) = (summarize(cut), parsed::parse(cut));
            assert_eq!(summary.parse, parsed.parse, "{name} cut at {end}");
        }
    }
}

#[test]
fn shows_names_types_and_texts_of_attachments() {
    let named = |file: &str| {
        let raw = own().into_iter().find(|(name, _)| name == file).unwrap_or_else(|| panic!("{file}")).1;
        parsed::parse(&raw)
    };
    let names = |file: &str| named(file).attachments.into_iter().map(|a| a.name).collect::<Vec<_>>();
    assert_eq!(
        names("rfc2231_names.eml"),
        ["€ rates.pdf", "Lange Datei mit übername.pdf", "äöü.pdf", "grüße.pdf", "unterminated.pdf", "two words.pdf"]
    );
    assert_eq!(names("winmail_dat.eml"), ["winmail.dat"]);
    assert_eq!(names("digest.eml"), ["First in digest.eml", "Second in digest.eml"]);
    let invitation = named("calendar_invite.eml");
    assert!(invitation.attachments[0].inline && !invitation.attachments[1].inline);
    assert!(invitation.attachments[0].text.as_deref().is_some_and(|text| text.contains("SUMMARY:Review")));
    let pictures = named("mixed_related_alternative.eml");
    assert_eq!(pictures.content_ids.len(), 2);
    assert_eq!(pictures.attachments[pictures.content_ids["b@x"]].name, "b.png");
    assert_eq!(named("html_around_attachment.eml").html.map(|html| html.matches("<p>").count()), Some(2));
    let report = named("delivery_report.eml");
    assert!(report.attachments[0].text.as_deref().is_some_and(|text| text.contains("Status: 5.1.1")));
    assert_eq!(named("huge_to.eml").cc.len(), 2_000);
}

/// Shown also for a test that passes, whose `eprintln!` nobody sees.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn reads_the_shared_corpus_where_it_is() {
    let root = std::env::var_os("MAILROOM_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"), PathBuf::from);
    if !root.is_dir() {
        say(&format!("NOT RUN: there is no corpus in {} (set MAILROOM_CORPUS)", root.display()));
        return;
    }
    let mut messages = 0;
    for folder in std::fs::read_dir(&root).expect("the corpus can be listed") {
        let folder = folder.expect("the corpus can be listed").path();
        if !folder.is_dir() {
            continue;
        }
        for (name, raw) in read_all(&folder) {
            if name.contains("LICENSE") {
                continue;
            }
            check(&name, &raw);
            // As it would come over SMTP.
            let mut crlf = Vec::with_capacity(raw.len() * 2);
            for &byte in raw.iter().filter(|byte| **byte != b'\r') {
                if byte == b'\n' {
                    crlf.push(b'\r');
                }
                crlf.push(byte);
            }
            check(&name, &crlf);
            messages += 1;
        }
    }
    say(&format!("read {messages} messages of the corpus in {}", root.display()));
    assert!(messages > 0, "{} holds no messages", root.display());
}

#[test]
fn reads_the_headers_of_messages_beyond_the_limits() {
    let head = "Subject: large\r\nFrom: a@example.com\r\n";
    let multipart = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
    let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(300_000);
    let wide = format!("{multipart}{}", "--b\r\n\r\nx\r\n".repeat(100_000));
    let in_multiparts: String = (0..100_000)
        .map(|n| {
            format!(
                "Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\nContent-Type: message/rfc822\r\n\r\n"
            )
        })
        .collect();
    let digests: String =
        (0..100_000).map(|n| format!("Content-Type: multipart/digest; boundary=d{n}\r\n\r\n--d{n}\r\n\r\n")).collect();
    for (name, body) in [("nested", nested), ("wide", wide), ("multiparts", in_multiparts), ("digests", digests)] {
        let raw = format!("{head}{body}").into_bytes();
        assert!(structure::scan(&raw).exceeded, "{name}");
        let (summary, parsed) = check(name, &raw);
        assert_eq!((&*summary.subject, summary.parse), ("large", Parse::HeadersOnly), "{name}");
        assert!(parsed.attachments.is_empty() && parsed.parts.is_empty(), "{name}");
    }
}

#[test]
fn an_encoded_nested_message_is_not_opened() {
    // 300,000 levels in quoted-printable: a parser that decodes it and parses the result would overflow its stack.
    let levels = "Content-Type: message/rfc822=0D=0A=0D=0A".repeat(300_000);
    for kind in ["rfc822", "global", "RFC822; x=y"] {
        let raw =
            format!("Content-Type: message/{kind}\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{levels}");
        let (summary, parsed) = check(kind, raw.as_bytes());
        assert_eq!((summary.attachments, summary.parse, parsed.parts.len()), (1, Parse::Whole, 1));
    }
}
