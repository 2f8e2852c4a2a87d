//! First pages of lists where other nodes write to the same database.
//!
//! Nobody can tell this node of every change in time, so the row of the mailbox is read from the primary for each list, and
//! a page is kept under a name that says exactly what it is of: mailbox, incarnation, mod-sequence, and what lifetimes
//! depend on. What changes has another name. The first level is this process, for 5 s; the second ([`SecondLevel`],
//! connected by `app`) is shared by all nodes. The list over all mailboxes is kept in the first level alone, under the stamp
//! of the stream.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use entity::mailbox;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::cache::Shape;
use super::columns;
use super::config::Defaults;
use super::list;
use super::messages::{ListRequest, MessagePage, Scope};
use super::metrics as names;
use super::replay::Position;
use super::{Store, StoreError};
use crate::mail::cursor::StreamCursor;
use crate::mail::time::Timestamp;

/// Pages that all nodes share.
pub trait SecondLevel: Send + Sync + 'static {
    /// The page of this name; none after a short time at the latest.
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<Bytes>>;
    /// Keeps a page, some time soon; never waits.
    fn keep(&self, name: &str, page: Bytes);
}

/// Only lists of these lengths are shared: whoever asks for all the others fills the memory of this process, which is bounded,
/// and not that of all.
const SHARED: [u32; 4] = [10, 20, 50, 100];
/// How a page looks may change with the version that rendered it.
const FORMAT: &str = concat!(env!("CARGO_PKG_VERSION"), "-1");
const LIFE: Duration = Duration::from_secs(5);
/// What a page costs beside its bytes.
const OVERHEAD: usize = 512;

/// See the module.
#[derive(Default)]
pub struct Pages {
    first: Mutex<First>,
    capacity: usize,
    second: OnceLock<std::sync::Arc<dyn SecondLevel>>,
}

#[derive(Default)]
struct First {
    pages: HashMap<(Scope, Shape), Kept>,
    bytes: usize,
}

struct Kept {
    name: String,
    page: Page,
    since: Instant,
}

/// A rendered page, and until when it holds if nothing happens: none for good.
#[derive(Clone)]
struct Page {
    bytes: Bytes,
    until: Option<Timestamp>,
}

impl Pages {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    fn get(&self, of: &(Scope, Shape), name: &str, now: Timestamp) -> Option<Bytes> {
        let first = self.first.lock();
        let kept = first.pages.get(of).filter(|kept| kept.name == name && kept.since.elapsed() < LIFE)?;
        kept.page.holds(now).then(|| kept.page.bytes.clone())
    }

    fn keep(&self, of: (Scope, Shape), name: String, page: Page) {
        let size = page.bytes.len() + OVERHEAD;
        if size > self.capacity {
            return;
        }
        let mut first = self.first.lock();
        if first.bytes + size > self.capacity {
            first.pages.retain(|_, kept| kept.since.elapsed() < LIFE);
            first.bytes = first.pages.values().map(Kept::size).sum();
        }
        if first.bytes + size > self.capacity {
            *first = First::default();
        }
        first.bytes += size;
        let before = first.pages.insert(of, Kept { name, page, since: Instant::now() });
        first.bytes -= before.as_ref().map_or(0, Kept::size);
    }
}

impl Kept {
    fn size(&self) -> usize {
        self.page.bytes.len() + OVERHEAD
    }
}

impl Page {
    fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    /// With its end before it, in eight bytes.
    fn pack(&self) -> Bytes {
        let mut packed = BytesMut::with_capacity(self.bytes.len() + 8);
        packed.put_i64(self.until.map_or(i64::MAX, |until| until.0));
        packed.put_slice(&self.bytes);
        packed.freeze()
    }

    fn unpack(packed: &Bytes) -> Option<Self> {
        let until = i64::from_be_bytes(*packed.first_chunk()?);
        Some(Self { bytes: packed.slice(8..), until: (until < i64::MAX).then_some(Timestamp(until)) })
    }
}

impl Store {
    /// Connects the second level; once.
    pub fn share_pages(&self, level: std::sync::Arc<dyn SecondLevel>) {
        // A second one would be a mistake of the caller, and change nothing.
        let _ = self.inner.pages.second.set(level);
    }

    /// The first page as it is now.
    pub(super) async fn list_exact(
        &self,
        request: &ListRequest,
        render: impl Fn(&MessagePage) -> Bytes,
    ) -> Result<Bytes, StoreError> {
        let (shape, lineage) = ((request.limit, request.unread), self.lineage());
        let (row, name) = match &request.scope {
            Scope::Mailbox(key) => match self.timely(self.mailbox_row(&self.inner.read, key)).await? {
                Some(row) => {
                    let name = self.name(&row, row.modseq, shape, lineage);
                    (Some(row), name)
                }
                None => return Ok(render(&list::empty())),
            },
            Scope::All => (None, all(self.stream_now().await?)),
        };
        let (pages, now) = (&self.inner.pages, self.now());
        let of = (request.scope.clone(), shape);
        if let Some(page) = pages.get(&of, &name, now) {
            metrics::counter!(names::LIST_HITS, "level" => "process").increment(1);
            return Ok(page);
        }
        let second = pages.second.get().filter(|_| row.is_some() && SHARED.contains(&request.limit));
        if let Some(second) = second
            && let Some(page) = second.get(&name).await.and_then(|packed| Page::unpack(&packed))
            && page.holds(now)
        {
            metrics::counter!(names::LIST_HITS, "level" => "redis").increment(1);
            pages.keep(of, name, page.clone());
            return Ok(page.bytes);
        }
        metrics::counter!(names::LIST_MISSES).increment(1);
        let page = self.list(request).await?;
        let rendered = Page { bytes: render(&page), until: page.until };
        // Under the name of what it is, which may be newer than what was looked for.
        let name = match (&row, page.position) {
            (Some(row), Position::Mailbox(at))
                if (at.lineage, at.incarnation) == (lineage, columns::unsigned(row.incarnation)) =>
            {
                self.name(row, columns::signed(at.modseq), shape, lineage)
            }
            (None, Position::Stream(at)) => all(at),
            // It lives again meanwhile, or in another history.
            _ => return Ok(rendered.bytes),
        };
        if let Some(second) = second {
            second.keep(&name, rendered.pack());
        }
        let bytes = rendered.bytes.clone();
        pages.keep(of, name, rendered);
        Ok(bytes)
    }

    fn name(&self, row: &mailbox::Model, modseq: i64, shape: Shape, lineage: u32) -> String {
        name(row, modseq, shape, lineage, &self.inner.defaults)
    }
}

fn all(at: StreamCursor) -> String {
    format!("all-{at}")
}

/// Everything that a page of this mailbox depends on.
fn name(row: &mailbox::Model, modseq: i64, (limit, unread): Shape, lineage: u32, defaults: &Defaults) -> String {
    let (id, incarnation) = (row.id, row.incarnation);
    let (end, ttl) = (row.expires_at.unwrap_or(0), columns::message_ttl(row, defaults).unwrap_or(0));
    let unread = u8::from(unread);
    format!("{FORMAT}-{lineage:x}-{id:x}-{incarnation:x}-{modseq:x}-{end:x}-{ttl:x}-{limit}-{unread}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::MailboxKey;

    const NOW: Timestamp = Timestamp(1_000);

    fn of(name: &str) -> (Scope, Shape) {
        (Scope::Mailbox(MailboxKey::from_stored(name)), (20, false))
    }

    fn page(length: usize, until: Option<i64>) -> Page {
        Page { bytes: vec![7; length].into(), until: until.map(Timestamp) }
    }

    #[test]
    fn a_page_is_found_under_its_own_name_until_its_end() {
        let pages = Pages::new(10_000);
        pages.keep(of("a@b"), "one".into(), page(5, Some(2_000)));
        assert_eq!(pages.get(&of("a@b"), "one", NOW).unwrap().len(), 5);
        assert!(pages.get(&of("a@b"), "two", NOW).is_none());
        assert!(pages.get(&of("a@b"), "one", Timestamp(2_000)).is_none());
        pages.keep(of("a@b"), "two".into(), page(6, None));
        assert!(pages.get(&of("a@b"), "one", NOW).is_none(), "one page of each list");
        assert!(pages.get(&of("a@b"), "two", Timestamp(i64::MAX)).is_some());
    }

    #[test]
    fn memory_is_bounded_and_counted_exactly() {
        let pages = Pages::new(20_000);
        for n in 0..1_000 {
            pages.keep(of(&format!("{}@x", n % 30)), format!("{n}"), page(1_000, None));
            let first = pages.first.lock();
            assert!(first.bytes <= 20_000);
            assert_eq!(first.bytes, first.pages.values().map(Kept::size).sum::<usize>());
        }
        pages.keep(of("large@x"), "n".into(), page(20_000, None));
        assert!(pages.get(&of("large@x"), "n", NOW).is_none());
        Pages::new(0).keep(of("a@b"), "n".into(), page(0, None));
    }

    #[test]
    fn what_travels_keeps_its_end() {
        for until in [None, Some(5), Some(-5)] {
            let back = Page::unpack(&page(3, until).pack()).unwrap();
            assert_eq!((back.bytes.len(), back.until.map(|until| until.0)), (3, until));
        }
        assert!(Page::unpack(&Bytes::from_static(b"short")).is_none());
    }

    #[test]
    fn whatever_a_page_depends_on_is_in_its_name() {
        let row = mailbox::Model { id: 1, incarnation: 2, modseq: 3, ..mailbox::Model::default() };
        let defaults = Defaults { message_ttl: Some(Duration::from_secs(60)), ..Defaults::default() };
        let first = name(&row, row.modseq, (20, false), 9, &defaults);
        let others = [
            name(&row, 4, (20, false), 9, &defaults),
            name(&row, 3, (21, false), 9, &defaults),
            name(&row, 3, (20, true), 9, &defaults),
            name(&row, 3, (20, false), 8, &defaults),
            name(&row, 3, (20, false), 9, &Defaults::default()),
            name(&mailbox::Model { id: 5, ..row.clone() }, 3, (20, false), 9, &defaults),
            name(&mailbox::Model { incarnation: 5, ..row.clone() }, 3, (20, false), 9, &defaults),
            name(&mailbox::Model { expires_at: Some(5), ..row.clone() }, 3, (20, false), 9, &defaults),
            name(&mailbox::Model { message_ttl: Some(5), ..row.clone() }, 3, (20, false), 9, &defaults),
        ];
        assert!(others.iter().all(|other| *other != first));
    }
}
