use super::hostile::HOSTILE;
use super::scan::{Scan, Token};
use super::*;

const NONE: HtmlContext<'static> = HtmlContext { attachment: &|_| None, remote: true };
const LOGO: HtmlContext<'static> = HtmlContext {
    attachment: &|id| (id == "logo@x.org").then(|| "/v1/mailboxes/a@b/messages/1/attachments/2".into()),
    remote: true,
};

fn clean(html: &str) -> String {
    sanitize(html, &LOGO).unwrap().html
}

/// Fails unless everything in `html` is on the list and every address is harmless.
fn assert_inert(html: &str, from: &str) {
    assert_listed(html, from);
    // What another parser makes of it, after the first one moved things about.
    let body = html.split_once("</style>").map_or(html, |(_, body)| body);
    assert_listed(&POLICY.clean(body).to_string(), from);
}

fn assert_listed(html: &str, from: &str) {
    let (styles, body) = match html.strip_prefix("<style>") {
        Some(rest) => rest.split_once("</style>").unwrap(),
        None => ("", html),
    };
    assert!(!styles.contains('<'), "{from:?} gave {html:?}");
    let mut css = styles.to_ascii_lowercase();
    for token in Scan::new(body) {
        match token {
            Token::Start { name, attributes } => {
                assert!(tables::kept(&name).is_some(), "{from:?} gave {html:?}");
                for (attribute, value) in attributes {
                    let known =
                        tables::attribute(&attribute).is_some() || ["target", "rel"].contains(&attribute.as_str());
                    assert!(known, "{from:?} gave {html:?}");
                    let value = scan::decode(value).to_ascii_lowercase();
                    match attribute.as_str() {
                        "href" => {
                            let fine = ["http://", "https://", "mailto:", "tel:", "#"];
                            assert!(fine.iter().any(|fine| value.starts_with(fine)), "{from:?} gave {html:?}");
                        }
                        "src" | "background" => {
                            let fine =
                                ["http://", "https://", "data:image/", "/v1/mailboxes/a@b/messages/1/attachments/"];
                            assert!(fine.iter().any(|fine| value.starts_with(fine)), "{from:?} gave {html:?}");
                        }
                        "style" => css.push_str(&value),
                        _ => {}
                    }
                }
            }
            Token::Raw { name, .. } => panic!("{from:?} gave {name} in {html:?}"),
            Token::Text(_) | Token::End { .. } => {}
        }
    }
    // Within a string a word is only a word.
    let outside: String = css.split('"').step_by(2).collect();
    let outside = outside.replace("x-blocked", "");
    let names = outside.split(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '@' | '(')));
    for name in names.flat_map(|name| name.split_inclusive('(')) {
        let bad = ["expression(", "-moz-binding", "behavior", "@import", "@font-face", "image-set("];
        assert!(!bad.contains(&name), "{from:?} gave {html:?}");
    }
    // Strings are quoted alike, so every second piece is one.
    let pieces: Vec<&str> = css.split('"').collect();
    for (at, piece) in pieces.iter().enumerate().step_by(2) {
        let calls = piece.match_indices("url(").filter(|(at, _)| {
            let before = piece[..*at].chars().next_back();
            before.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_') || !c.is_ascii()))
        });
        for (call, _) in calls {
            assert_eq!(call + 4, piece.len(), "{from:?} gave {html:?}");
            let fine = ["http://", "https://", "data:image/", "data:,", "/v1/mailboxes/a@b/messages/1/attachments/"];
            assert!(fine.iter().any(|fine| pieces[at + 1].starts_with(fine)), "{from:?} gave {html:?}");
        }
    }
}

#[test]
fn nothing_active_is_left() {
    assert!(HOSTILE.len() > 100);
    for html in HOSTILE {
        for wrapped in [
            (*html).to_owned(),
            format!("<table><tr><td>{html}</td></tr></table>"),
            format!("<p>{html}</p><b>after</b>"),
        ] {
            assert_inert(&clean(&wrapped), &wrapped);
        }
    }
}

#[test]
fn nothing_active_is_left_of_any_two_beside_each_other() {
    for first in HOSTILE {
        for second in HOSTILE {
            let html = format!("{first}{second}");
            assert_inert(&clean(&html), &html);
        }
    }
}

#[test]
fn keeps_what_mail_is_made_of() {
    let mail = "<table bgcolor=\"#eeeeee\" width=\"100%\" cellpadding=\"0\" align=\"center\"><tbody><tr>\
        <td valign=\"top\" style=\"padding:0 10px;mso-line-height-rule:exactly\" class=\"x\"><center><font color=\"red\" \
        face=\"Arial\">Grüße &amp; more</font></center></td></tr></tbody></table>";
    assert_eq!(clean(mail), mail);
    assert_eq!(
        clean(
            "<style>.a > b{color:#FF0;width:calc(100% - 2px)}@media (max-width:600px){.a{display:none!important}}</style>x"
        ),
        "<style>.a > b{color:#FF0;width:calc(100% - 2px)}@media (max-width:600px){.a{display:none!important}}\n</style>x"
    );
    assert_eq!(clean("<html><head><title>No</title></head><body>Hi<br>there</body></html>"), "Hi<br>there");
    assert_eq!(clean("1 < 2 &lt; 3 <3"), "1 &lt; 2 &lt; 3 &lt;3");
    assert_eq!(clean("<form><input><button>Press</button></form>"), "Press");
    assert_eq!(clean("a<script>b</script>c<svg><text>d</text></svg>e"), "ace");
    let link = clean("<a href=https://a.example/?a=1&amp;b=2>x</a>");
    assert!(link.contains("href=\"https://a.example/?a=1&amp;b=2\""), "{link}");
    assert!(link.contains("target=\"_blank\"") && link.contains("rel=\"noopener noreferrer\""), "{link}");
}

#[test]
fn repairs_what_authors_leave_open() {
    assert_eq!(clean("<p><b>a<p>b</b>c"), "<p><b>a</b></p><p><b>b</b>c</p>");
    assert_eq!(clean("<b>a<i>b</b>c</i>d"), "<b>a<i>b</i></b><i>c</i>d");
    assert_eq!(
        clean("<ul><li>a<li>b<ul><li>c</ul><li>d</ul>"),
        "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"
    );
    assert_eq!(
        clean("<table><tr><td>a<td>b<tr><td><font size=1>c</table>d"),
        "<table><tbody><tr><td>a</td><td>b</td></tr><tr><td><font size=\"1\">c</font></td></tr></tbody></table>d"
    );
    assert_eq!(clean("<table><td>a</div></b>b</table></td>c"), "<table><tbody><tr><td>ab</td></tr></tbody></table>c");
    assert_eq!(clean("</p></b></td>a"), "a");
    let paragraphs = "<p>x".repeat(5_000);
    assert_eq!(clean(&paragraphs).matches("<p>").count(), 5_000);
}

#[test]
fn the_body_keeps_its_colours() {
    assert_eq!(
        clean("<body bgcolor=#112233 text=white style=\"margin:0\" onload=x()>a</body>"),
        "<div style=\"background-color:#112233;color:white;margin:0\">a</div>"
    );
}

#[test]
fn content_ids_become_addresses_of_attachments() {
    let url = "/v1/mailboxes/a@b/messages/1/attachments/2";
    assert_eq!(clean("<img src=\"cid:logo@x.org\">"), format!("<img src=\"{url}\">"));
    assert_eq!(clean("<img src=CID:logo%40x.org alt=a>"), format!("<img src=\"{url}\" alt=\"a\">"));
    assert_eq!(clean("<img src=cid:other alt=a>"), "<img alt=\"a\">");
    assert_eq!(
        clean("<table background=cid:logo@x.org></table><p style=\"background:url('cid:logo@x.org')\">"),
        format!("<table background=\"{url}\"></table><p style=\"background:url(&quot;{url}&quot;)\"></p>")
    );
    assert!(clean("<style>b{background:url(cid:logo@x.org)}</style>").contains(&format!("url(\"{url}\")")));
}

#[test]
fn says_whether_something_is_remote() {
    let remote = |html: &str| sanitize(html, &LOGO).unwrap().remote;
    for html in [
        "<img src=https://a.example/x.png>",
        "<img src=//a.example/x.png>",
        "<img srcset='https://a.example/x.png 2x'>",
        "<td background=http://a.example/x.png>",
        "<body background=http://a.example/x.png>",
        "<p style='background:URL(http://a.example/x.png)'>",
        "<style>p{background:\\75 rl(\"http://a.example/x.png\")}</style>",
        "<style>@import url(http://a.example/x.css)</style>",
    ] {
        let html = if html.starts_with("<td") { format!("<table><tr>{html}") } else { html.to_owned() };
        assert!(remote(&html), "{html}");
    }
    for html in [
        "<a href=https://a.example>x</a>",
        "<img src=cid:logo@x.org>",
        "<img src=data:image/png;base64,AA==>",
        "http://x",
    ] {
        assert!(!remote(html), "{html}");
    }
    assert!(sanitize("<style>@media (prefers-color-scheme:dark){b{color:#fff}}</style>", &NONE).unwrap().dark);
}

#[test]
fn css_is_written_as_it_is_read() {
    let css = |css: &str| {
        let (mut out, mut remote) = (String::new(), false);
        css::clean(css, &LOGO, &mut out, &mut remote);
        out
    };
    assert_eq!(css("a{b:c}"), "a{b:c}");
    assert_eq!(css(".\\31 0{content:'\\201C'}"), ".\\31 0{content:\"\u{201c}\"}");
    assert_eq!(css("x:url(a b)"), "x:url(\"data:,\")");
    assert_eq!(css("a{b:url(http://x/"), "a{b:url(\"http://x/\")");
    assert_eq!(css("a/*<b>*/:c"), "a :c");
    assert_eq!(css("@import 'a;b' screen;c{}"), "c{}");
    assert_eq!(css("@font-face{a:'}'}c{}"), "c{}");
    assert_eq!(css("font-family:\"A\\\"B\""), "font-family:\"A\\22 B\"");
    assert_eq!(css("a:'x\nb:c"), "a:\"x\"\nb:c");
    assert_eq!(css("a\\"), "a");
    assert_eq!(css("@media screen{a{}}"), "@media screen{a{}}");
}

#[test]
fn more_than_a_mebibyte_is_not_shown() {
    assert_eq!(sanitize(&"a".repeat(MAX_HTML_BYTES + 1), &NONE), Err(NotShown::TooLarge));
    assert!(sanitize(&"a".repeat(MAX_HTML_BYTES), &NONE).is_ok());
}

#[test]
fn the_page_has_no_script_and_holds_the_body() {
    let page = page(&sanitize("<style>b{}</style><b>x</b>", &NONE).unwrap());
    assert!(page.starts_with("<!doctype html>") && page.contains("<b>x</b>") && page.contains("charset=\"utf-8\""));
    assert!(!page.contains("<script"));
    assert_eq!(text_body("<b>&\0").html, "<div class=\"mailroom-text\">&lt;b&gt;&amp;</div>");
}

proptest::proptest! {
    #[test]
    fn no_mixture_is_active(pieces in proptest::collection::vec(piece(), 0..30)) {
        let html = pieces.concat();
        assert_inert(&clean(&html), &html);
    }
}

fn piece() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    const PIECES: &[&str] = &[
        "<",
        ">",
        "</",
        "/>",
        "<!--",
        "-->",
        "--!>",
        "\"",
        "'",
        "=",
        " ",
        "&",
        "&lt;",
        "&quot;",
        "<style",
        "</style>",
        "<script>",
        "</script>",
        "<svg>",
        "</svg>",
        "<math>",
        "<mtext>",
        "<table>",
        "</table>",
        "<tr>",
        "<td>",
        "<p>",
        "</p>",
        "<b>",
        "</b>",
        "<a href=",
        "javascript:alert(1)",
        "<img src=",
        "onerror=alert(1)",
        " style=",
        "url(",
        ")",
        "{",
        "}",
        ";",
        "\\",
        "@import",
        "expression(",
        "<select>",
        "</select>",
        "<template>",
        "<noscript>",
        "<title>",
        "<textarea>",
        "<iframe>",
        "<form>",
        "<!DOCTYPE>",
        "<![CDATA[",
        "]]>",
        "<?",
        "x",
        "\0",
        "\n",
        "é",
        "<body onload=x ",
        "<li>",
        "<font ",
        "<nobr>",
        "<center>",
        "<caption>",
        "<col>",
        "<h1>",
    ];
    prop_oneof![9 => prop::sample::select(PIECES).prop_map(str::to_owned), 1 => any::<String>()]
}

#[test]
fn nothing_elsewhere_is_named_until_the_reader_asks() {
    let page = "<style>p{background:url(http://a.test/1) red}</style><body background='//b.test/2'>\
                <img src='http://127.0.0.1:8080/v1/messages/wait?timeout=5m'><img src='HTTPS://c.test/3' srcset='http://d.test/4'>\
                <p style=\"background-image:url('https://e.test/5')\"><img src='cid:logo@x.org'><img src='data:image/png,6'>\
                <a href='http://link.test/'>x</a>";
    let shown = sanitize(page, &HtmlContext { remote: false, ..LOGO }).unwrap();
    assert!(shown.remote);
    for host in ["a.test", "b.test", "127.0.0.1", "c.test", "d.test", "e.test"] {
        assert!(!shown.html.contains(host), "{host}: {}", shown.html);
    }
    for kept in ["attachments/2", "data:image/png,6", "http://link.test/"] {
        assert!(shown.html.contains(kept), "{kept}: {}", shown.html);
    }
    let asked = sanitize(page, &LOGO).unwrap();
    for host in ["a.test", "b.test", "127.0.0.1", "c.test", "e.test"] {
        assert!(asked.html.contains(host), "{host}: {}", asked.html);
    }
}
