//! Which parts of a message a reader sees as its text, and which as attachments (RFC 8621 §4.1.4 says how in general).
//! Called by [`super::summary`] and [`super::parsed`], so that a list and a message count alike.

use super::content::{Disposition, Media};
use super::structure::{Kind, Multipart, Structure};

/// What a leaf or a nested message is to a reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// A container, or inside a nested message: not shown by itself.
    #[default]
    Hidden,
    /// Part of the text, the html, or both.
    Body,
    /// Belongs to the body or to the transport: a picture that the html shows, a signature, a delivery report, an
    /// invitation beside its text. Can be fetched like an attachment, but nobody would count it as one.
    Inline,
    /// What a user calls an attachment.
    Attachment,
}

/// The view of a message as a reader sees it.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// One for each part of the structure.
    pub roles: Vec<Role>,
    /// Media of the leaves and nested messages, by part; empty for what is hidden.
    pub media: Vec<Media>,
    /// Parts whose text makes the plain text, in order; html among them is converted.
    pub text: Vec<usize>,
    /// Parts that make the html, in order; plain text among them is shown as it is.
    pub html: Vec<usize>,
}

/// A body part and the innermost `multipart/alternative` around it.
struct Candidate {
    part: usize,
    alternative: Option<usize>,
    is_html: bool,
}

/// Decides for each part. A message that is nothing but a nested one is shown as that one.
#[must_use]
pub fn view(raw: &[u8], structure: &Structure) -> View {
    let root = structure.parts.iter().position(|part| part.kind != Kind::Message).unwrap_or(0);
    let mut view = View { roles: vec![Role::Hidden; structure.parts.len()], media: Vec::new(), ..View::default() };
    view.media.resize(structure.parts.len(), Media::default());
    let mut candidates = Vec::new();
    for (index, part) in structure.parts.iter().enumerate().skip(root) {
        let container =
            part.parent.filter(|&parent| parent >= root).and_then(|p| structure.parts.get(p).map(|c| (p, c)));
        // What a nested message holds belongs to it.
        let inside = container
            .is_some_and(|(parent, container)| container.kind == Kind::Message || is_inside(structure, parent, root));
        if inside || matches!(part.kind, Kind::Multipart(_)) {
            continue;
        }
        let media = Media::read(raw, part);
        let place = Place::of(structure, index, root);
        let role = role(&media, part.kind, &place);
        if role == Role::Body {
            candidates.push(Candidate { part: index, alternative: place.alternative, is_html: media.is_html() });
        }
        if let (Some(slot), Some(slot_media)) = (view.roles.get_mut(index), view.media.get_mut(index)) {
            *slot = role;
            *slot_media = media;
        }
    }
    choose(&candidates, &mut view);
    view
}

/// Whether a part lies in a message nested below `root`.
fn is_inside(structure: &Structure, part: usize, root: usize) -> bool {
    let mut at = Some(part);
    while let Some(container) = at.filter(|&at| at > root).and_then(|at| structure.parts.get(at)) {
        at = container.parent;
        if at.is_some_and(|at| at > root && structure.parts.get(at).is_some_and(|p| p.kind == Kind::Message)) {
            return true;
        }
    }
    false
}

/// Where a part stands.
struct Place {
    /// What is directly around it.
    container: Option<Multipart>,
    first: bool,
    alternative: Option<usize>,
    in_related: bool,
}

impl Place {
    fn of(structure: &Structure, index: usize, root: usize) -> Self {
        let parent_of =
            |at: usize| structure.parts.get(at).and_then(|part| part.parent).filter(|&parent| parent >= root);
        let kind_of = |at: usize| match structure.parts.get(at).map(|part| part.kind) {
            Some(Kind::Multipart(kind)) => Some(kind),
            _ => None,
        };
        let parent = parent_of(index);
        let mut place = Self {
            container: parent.and_then(kind_of),
            first: parent.is_none_or(|parent| index == parent + 1),
            alternative: None,
            in_related: false,
        };
        let mut around = parent;
        while let Some(at) = around {
            match kind_of(at) {
                Some(Multipart::Alternative) if place.alternative.is_none() => place.alternative = Some(at),
                Some(Multipart::Related) => place.in_related = true,
                _ => {}
            }
            around = parent_of(at);
        }
        place
    }
}

fn role(media: &Media, kind: Kind, place: &Place) -> Role {
    if kind == Kind::Message {
        return Role::Attachment;
    }
    let attached = media.disposition == Disposition::Attachment;
    let media_type: &str = &media.media_type;
    if matches!(media_type, "text/plain" | "text/html" | "text/enriched" | "text/markdown") && !attached {
        // A further text with a name is a file that is shown, a further one in `related` is a resource.
        let shown = place.first || (media.name.is_none() && place.container != Some(Multipart::Related));
        return if shown { Role::Body } else { Role::Attachment };
    }
    let inline = match place.container {
        // Signatures say `attachment` for readers that do not know them.
        Some(Multipart::Signed) => media_type.contains("signature"),
        Some(Multipart::Report) => media_type.starts_with("message/") || media_type == "text/rfc822-headers",
        // An invitation or the like beside its text.
        Some(Multipart::Alternative) => !attached && media.is_text() && media.name.is_none(),
        _ => false,
    };
    let shown_by_html = media.content_id.is_some() && (place.in_related || media.disposition == Disposition::Inline);
    if inline || (!attached && shown_by_html) { Role::Inline } else { Role::Attachment }
}

/// Of alternatives the text takes the plain ones and the html the html ones; where one kind is missing, the other
/// stands in for it. Everything else is in both.
fn choose(candidates: &[Candidate], view: &mut View) {
    // Candidates of one alternative follow each other, so a run at a time is enough.
    for run in candidates.chunk_by(|a, b| a.alternative.is_some() && a.alternative == b.alternative) {
        let mixed = run.iter().any(|c| c.alternative.is_some() && c.is_html) && run.iter().any(|c| !c.is_html);
        for candidate in run {
            if !mixed || !candidate.is_html {
                view.text.push(candidate.part);
            }
            if !mixed || candidate.is_html {
                view.html.push(candidate.part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::structure::scan;
    use super::*;

    /// Roles as letters, then the parts of text and html.
    fn roles(raw: &str) -> (String, Vec<usize>, Vec<usize>) {
        let raw = raw.replace('\n', "\r\n");
        let view = view(raw.as_bytes(), &scan(raw.as_bytes()));
        let letters = view.roles.iter().map(|role| match role {
            Role::Hidden => '-',
            Role::Body => 'b',
            Role::Inline => 'i',
            Role::Attachment => 'a',
        });
        (letters.collect(), view.text, view.html)
    }

    #[test]
    fn alternatives_are_chosen_from() {
        let raw = "Content-Type: multipart/alternative; boundary=x\n\n--x\n\nplain\n--x\nContent-Type: text/html\n\nhtml\n\
            --x\nContent-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR\n--x--\n";
        assert_eq!(roles(raw), ("-bbi".into(), vec![1], vec![2]));
        let only_html =
            "Content-Type: multipart/alternative; boundary=x\n\n--x\nContent-Type: text/html\n\nhtml\n--x--\n";
        assert_eq!(roles(only_html), ("-b".into(), vec![1], vec![1]));
    }

    #[test]
    fn pictures_of_the_html_are_not_attachments() {
        let raw = "Content-Type: multipart/related; boundary=x\n\n--x\nContent-Type: text/html\n\n<img src=cid:a>\n\
            --x\nContent-Type: image/png\nContent-ID: <a>\n\nPNG\n--x\nContent-Type: application/pdf; name=a.pdf\n\nPDF\n--x--\n";
        assert_eq!(roles(raw), ("-bia".into(), vec![1], vec![1]));
    }

    #[test]
    fn a_nested_message_is_one_attachment() {
        let raw = "Content-Type: multipart/mixed; boundary=x\n\n--x\n\ntext\n--x\nContent-Type: message/rfc822\n\n\
            Content-Type: multipart/mixed; boundary=y\n\n--y\n\nin\n--y\nContent-Type: application/pdf\n\nPDF\n--y--\n--x--\n";
        assert_eq!(roles(raw), ("-ba---".into(), vec![1], vec![1]));
        assert_eq!(roles("Content-Type: message/rfc822\n\nSubject: in\n\ntext\n"), ("-b".into(), vec![1], vec![1]));
    }

    #[test]
    fn reports_and_signatures_are_not_attachments() {
        let report = "Content-Type: multipart/report; boundary=x\n\n--x\n\nfailed\n--x\nContent-Type: message/delivery-status\n\n\
            Status: 5.1.1\n--x\nContent-Type: message/rfc822\n\nSubject: a\n\nb\n--x--\n";
        assert_eq!(roles(report), ("-bia-".into(), vec![1], vec![1]));
        let signed = "Content-Type: multipart/signed; boundary=x\n\n--x\n\ntext\n--x\n\
            Content-Type: application/pgp-signature; name=signature.asc\nContent-Disposition: attachment\n\nsig\n--x--\n";
        assert_eq!(roles(signed), ("-bi".into(), vec![1], vec![1]));
    }

    #[test]
    fn named_texts_are_files() {
        let raw = "Content-Type: multipart/mixed; boundary=x\n\n--x\n\nbody\n--x\nContent-Type: text/plain; name=a.txt\n\nfile\n\
            --x\nContent-Disposition: attachment\n\nfile\n--x\n\nfooter\n--x--\n";
        assert_eq!(roles(raw), ("-baab".into(), vec![1, 4], vec![1, 4]));
        assert_eq!(roles("Content-Disposition: attachment; filename=a.txt\n\nx"), ("a".into(), vec![], vec![]));
    }
}
