//! The elements and attributes that mail is made of; everything else is taken out.

/// Elements that stay, sorted.
pub(super) const KEPT: &[&str] = &[
    "a",
    "abbr",
    "acronym",
    "address",
    "area",
    "article",
    "aside",
    "b",
    "bdi",
    "bdo",
    "big",
    "blockquote",
    "br",
    "caption",
    "center",
    "cite",
    "code",
    "col",
    "colgroup",
    "dd",
    "del",
    "details",
    "dfn",
    "dir",
    "div",
    "dl",
    "dt",
    "em",
    "figcaption",
    "figure",
    "font",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "i",
    "img",
    "ins",
    "kbd",
    "li",
    "main",
    "map",
    "mark",
    "nav",
    "nobr",
    "ol",
    "p",
    "pre",
    "q",
    "rp",
    "rt",
    "ruby",
    "s",
    "samp",
    "section",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "time",
    "tr",
    "tt",
    "u",
    "ul",
    "var",
    "wbr",
];

/// Elements that go with all they hold; of all others only the tags go.
pub(super) const GONE: &[&str] =
    &["applet", "audio", "canvas", "datalist", "math", "select", "svg", "template", "video"];

/// Attributes that stay, sorted. `href`, `src` and `background` only where [`takes`] says so.
pub(super) const ATTRIBUTES: &[&str] = &[
    "abbr",
    "align",
    "alt",
    "aria-hidden",
    "aria-label",
    "axis",
    "background",
    "bgcolor",
    "border",
    "bordercolor",
    "cellpadding",
    "cellspacing",
    "char",
    "charoff",
    "class",
    "clear",
    "color",
    "colspan",
    "compact",
    "coords",
    "datetime",
    "dir",
    "face",
    "frame",
    "headers",
    "height",
    "href",
    "hspace",
    "id",
    "lang",
    "name",
    "noshade",
    "nowrap",
    "open",
    "reversed",
    "role",
    "rowspan",
    "rules",
    "scope",
    "shape",
    "size",
    "span",
    "src",
    "start",
    "style",
    "summary",
    "title",
    "type",
    "usemap",
    "valign",
    "value",
    "vspace",
    "width",
];

/// Elements without an end tag, sorted.
const VOID: &[&str] = &["area", "br", "col", "hr", "img", "wbr"];

/// Elements before which an open `p` ends (HTML 13.2.6.4.7), sorted.
const BLOCKS: &[&str] = &[
    "address",
    "article",
    "aside",
    "blockquote",
    "center",
    "dd",
    "details",
    "dir",
    "div",
    "dl",
    "dt",
    "figcaption",
    "figure",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "li",
    "main",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "summary",
    "table",
    "ul",
];

/// Elements that the parser opens again after something around them ended, sorted (HTML 13.2.4.3, without `a`).
const FORMATTING: &[&str] =
    &["b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"];

/// The list's own copy of an element's name, which lives as long as the program.
pub(super) fn kept(name: &str) -> Option<&'static str> {
    entry(KEPT, name)
}

/// The list's own copy of an attribute's name.
pub(super) fn attribute(name: &str) -> Option<&'static str> {
    entry(ATTRIBUTES, name)
}

fn entry(list: &'static [&'static str], name: &str) -> Option<&'static str> {
    list.binary_search(&name).ok().and_then(|at| list.get(at)).copied()
}

/// Whether an attribute that holds an address means something on this element.
pub(super) fn takes(element: &str, attribute: &str) -> bool {
    match attribute {
        "href" => matches!(element, "a" | "area"),
        "src" | "usemap" => element == "img",
        "background" => matches!(element, "table" | "thead" | "tbody" | "tfoot" | "tr" | "td" | "th"),
        _ => true,
    }
}

pub(super) fn is_void(name: &str) -> bool {
    VOID.binary_search(&name).is_ok()
}

pub(super) fn is_formatting(name: &str) -> bool {
    FORMATTING.binary_search(&name).is_ok()
}

/// Whether an element has a place in a table of its own.
pub(super) fn is_of_table(name: &str) -> bool {
    matches!(name, "table" | "caption" | "colgroup" | "col" | "thead" | "tbody" | "tfoot" | "tr" | "td" | "th")
}

/// Whether an element holds parts of tables or lists, and no text itself.
pub(super) fn is_container(name: &str) -> bool {
    matches!(name, "table" | "colgroup" | "thead" | "tbody" | "tfoot" | "tr" | "ul" | "ol" | "dl" | "dir" | "hr")
}

/// Which open elements a start tag ends, and which ones hide those beyond them: what authors leave to the parser.
pub(super) fn implied_ends(start: &str) -> &'static [(&'static [&'static str], &'static [&'static str])] {
    const CELL: &[&str] = &["table", "td", "th", "caption"];
    const P: (&[&str], &[&str]) = (&["p"], CELL);
    match start {
        "li" => &[(&["li"], &["ul", "ol", "dir", "table", "td", "th", "caption"]), P],
        "dd" | "dt" => &[(&["dd", "dt"], &["dl", "table", "td", "th", "caption"]), P],
        "td" | "th" => &[(&["td", "th", "caption", "colgroup"], &["table", "tr"])],
        "tr" => &[(&["tr", "caption", "colgroup"], &["table"])],
        "thead" | "tbody" | "tfoot" => &[(&["thead", "tbody", "tfoot", "tr", "caption", "colgroup"], &["table"])],
        "caption" | "colgroup" => &[(&["caption", "colgroup"], &["table"])],
        "a" => &[(&["a"], CELL)],
        "nobr" => &[(&["nobr"], CELL)],
        _ if BLOCKS.binary_search(&start).is_ok() => &[P],
        _ => &[],
    }
}

/// Whether `end` may close something beyond this open element: a cell keeps what is in it to itself.
pub(super) fn closes_through(open: &str, end: &str) -> bool {
    match open {
        "td" | "th" | "caption" => {
            matches!(end, "td" | "th" | "caption" | "tr" | "tbody" | "thead" | "tfoot" | "table")
        }
        "table" => end == "table",
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        for list in [KEPT, GONE, ATTRIBUTES, VOID, BLOCKS, FORMATTING] {
            assert!(list.is_sorted());
        }
    }
}
