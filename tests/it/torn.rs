//! Files that a power cut, a bad disk or a person damaged, in every kind of place: what was answered comes back, or a
//! clear error names exactly what is lost and all else is served.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use mailroom::mail::units::Bytes;
use mailroom::store::bodies::record::{Frame, HEAD, Record};
use mailroom::store::bodies::segment::HEADER;
use mailroom::store::check::Severity;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::support::process::Plan;
use crate::support::{Api, TestServer, message};

const SEGMENT: u64 = 32 * 1024;
const MESSAGES: usize = 36;
const MAILBOXES: [&str; 3] = ["a@example.com", "b@example.com", "c@example.com"];

/// A message that was answered 250.
struct Kept {
    id: String,
    to: Vec<&'static str>,
    contents: Vec<u8>,
}

/// A data directory as SIGKILL left it, with all of the last commits in the WAL alone, and what is in it.
struct Wreck {
    dir: tempfile::TempDir,
    kept: Vec<Kept>,
    records: Vec<Place>,
}

/// Where a record lies.
#[derive(Clone)]
struct Place {
    id: String,
    file: String,
    start: usize,
    length: usize,
    json: usize,
}

impl Place {
    fn end(&self) -> usize {
        self.start + self.length
    }
}

impl Wreck {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new(dir.path()).set("MAILROOM__BODIES__SEGMENT_SIZE", &format!("{SEGMENT}B"));
        let server = plan.start().await;
        let mut rng = StdRng::seed_from_u64(1);
        let mut smtp = server.smtp().await;
        smtp.hello().await;
        let mut kept = Vec::new();
        for n in 0..MESSAGES {
            let to: Vec<&str> = MAILBOXES.into_iter().take(1 + n % 3).collect();
            let noise: String =
                (0..rng.random_range(10..6_000)).map(|_| char::from(rng.random_range(b' '..b'~'))).collect();
            let contents = message(&n.to_string(), &noise).into_bytes();
            let reply = smtp.send("ann@sender.test", &to, &contents).await;
            let id = reply.strip_prefix("250 2.0.0 Stored as ").unwrap_or_else(|| panic!("{reply}")).to_owned();
            kept.push(Kept { id, to, contents });
        }
        server.kill();
        let records = records(&dir.path().join("bodies"));
        assert_eq!(records.len(), MESSAGES);
        Self { dir, kept, records }
    }

    /// A copy to damage.
    fn copy(&self) -> tempfile::TempDir {
        let to = tempfile::tempdir().unwrap();
        copy(self.dir.path(), to.path());
        to
    }

    /// Records of the only segment that is appended to, in order; with `false` of one that is closed.
    fn segment(&self, active: bool) -> Vec<Place> {
        let last = &self.records.last().unwrap().file;
        let first = &self.records[0].file;
        assert_ne!(last, first, "there is more than one segment");
        let file = if active { last } else { first };
        self.records.iter().filter(|place| place.file == *file).cloned().collect()
    }

    /// Starts a server on `data`: all is listed, `lost` answers that it is damaged, the others are whole, mail
    /// comes in. Then `mailroom check` names what is lost and nothing else.
    async fn serves(&self, data: tempfile::TempDir, lost: &HashSet<String>, what: &str) {
        let server = on(data.path()).await;
        let api = server.api().kept();
        for mailbox in MAILBOXES {
            self.mailbox(&api, mailbox, lost, what).await;
        }
        let after = message("after", what);
        server.deliver("a@example.com", &after).await;
        let server = server.restart().await;
        let list = server.api().json("/v1/mailboxes/a@example.com/messages?limit=1").await;
        let id = list["items"][0]["id"].as_str().unwrap();
        let raw = server.api().get(&format!("/v1/mailboxes/a@example.com/messages/{id}/raw")).await;
        assert!(raw.body.ends_with(after.as_bytes()), "{what}: {}", raw.text());
        let config = server.config.store();
        server.stop().await;

        let (summary, found) = crate::check::look(&config).await;
        let damage = || found.iter().filter(|finding| finding.severity == Severity::Damage);
        let named: HashSet<String> = damage().filter_map(|finding| finding.id).map(|id| id.to_string()).collect();
        assert_eq!(named, *lost, "{what}: `mailroom check` names what is damaged: {found:?}");
        let file = what.starts_with("the file's");
        assert_eq!(summary.damaged > 0, file || !lost.is_empty(), "{what}: {found:?}");
    }

    async fn mailbox(&self, api: &Api, mailbox: &str, lost: &HashSet<String>, what: &str) {
        let path = format!("/v1/mailboxes/{mailbox}");
        let list = api.json(&format!("{path}/messages?limit=100")).await;
        let listed: Vec<_> =
            list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
        let here = || self.kept.iter().filter(|kept| kept.to.contains(&mailbox));
        assert_eq!(listed.len(), here().count(), "{what}: {mailbox}");
        assert_eq!(api.json(&path).await["messages"].as_u64(), Some(listed.len() as u64), "{what}: {mailbox}");
        for kept in here() {
            assert!(listed.contains(&kept.id.as_str()), "{what}: {} is not in {mailbox}", kept.id);
            let raw = api.get(&format!("{path}/messages/{}/raw", kept.id)).await;
            if lost.contains(&kept.id) {
                assert_eq!(raw.status, 500, "{what}: {}", kept.id);
                assert_eq!(raw.json()["type"], "urn:mailroom:problem:message-damaged", "{what}: {}", kept.id);
            } else {
                assert_eq!(raw.status, 200, "{what}: {}: {}", kept.id, raw.text());
                assert!(raw.body.ends_with(&kept.contents), "{what}: {}", kept.id);
            }
        }
    }
}

async fn on(data: &Path) -> TestServer {
    TestServer::with(|config| {
        config.runtime.data = data.to_owned();
        config.bodies.segment_size = Bytes(SEGMENT);
    })
    .await
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(std::fs::copy(&path, &to).unwrap()),
        }
    }
}

fn records(bodies: &Path) -> Vec<Place> {
    let mut files: Vec<PathBuf> = bodies.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut places = Vec::new();
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        let mut start = usize::try_from(HEADER).unwrap();
        while start < bytes.len() {
            let frame = Frame::parse(&bytes[start..]).unwrap();
            let record = Record::parse(&bytes[start..]).unwrap();
            let length = usize::try_from(frame.length()).unwrap();
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            let json = length - HEAD - record.body.len();
            places.push(Place { id: frame.head.id.0.to_string(), file, start, length, json });
            start += length;
        }
    }
    places
}

/// Changes the contents of a file.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

fn ids<'a>(places: impl IntoIterator<Item = &'a Place>) -> HashSet<String> {
    places.into_iter().map(|place| place.id.clone()).collect()
}

#[actix::test]
async fn a_damaged_record_answers_an_error_and_all_others_are_served() {
    let wreck = Wreck::new().await;
    for active in [false, true] {
        let places = wreck.segment(active);
        let victim = &places[places.len() / 2];
        let body = HEAD + victim.json;
        let spots = [
            ("magic", 0),
            ("version", 4),
            ("flags", 5),
            ("id", 10),
            ("time", 24),
            ("size", 32),
            ("length of the body", 40),
            ("length of the body, its highest byte", 47),
            ("length of the envelope", 48),
            ("checksum of the body", 52),
            ("checksum of the envelope", 56),
            ("checksum of the head", 60),
            ("envelope", HEAD + 5),
            ("first byte of the body", body),
            ("body", (body + victim.length) / 2),
            ("last byte", victim.length - 1),
        ];
        for (what, at) in spots {
            let data = wreck.copy();
            edit(&data.path().join("bodies").join(&victim.file), |bytes| bytes[victim.start + at] ^= 0x11);
            wreck.serves(data, &ids([victim]), &format!("{what}, active: {active}")).await;
        }
    }
}

#[actix::test]
async fn a_damaged_file_loses_what_was_there_and_nothing_else() {
    let wreck = Wreck::new().await;
    for active in [false, true] {
        let places = wreck.segment(active);
        let middle = &places[places.len() / 2];
        let whole = places.last().unwrap().end();
        let header = usize::try_from(HEADER).unwrap();
        let from = |at: usize| ids(places.iter().filter(|place| place.end() > at));
        let overlap =
            |from: usize, to: usize| ids(places.iter().filter(|place| place.end() > from && place.start < to));
        type Change = Box<dyn Fn(&mut Vec<u8>)>;
        let cut = |at: usize| -> Change { Box::new(move |bytes: &mut Vec<u8>| bytes.truncate(at)) };
        let fill = |range: std::ops::Range<usize>, with: u8| -> Change {
            Box::new(move |bytes: &mut Vec<u8>| bytes[range.clone()].fill(with))
        };
        let zeros = middle.start + 100..middle.start + 100 + 4_096;
        let cases: Vec<(&str, Change, HashSet<String>)> = vec![
            ("the file's magic", fill(0..8, b'?'), HashSet::new()),
            ("the file's header", fill(0..header, 0), HashSet::new()),
            ("cut in the file's header", cut(10), from(0)),
            ("cut after the file's header", cut(header), from(0)),
            ("cut to nothing", cut(0), from(0)),
            ("cut in a head", cut(middle.start + 30), from(middle.start)),
            ("cut in an envelope", cut(middle.start + HEAD + 5), from(middle.start)),
            ("cut in a body", cut(middle.end() - 1), from(middle.start)),
            ("cut between records", cut(middle.end()), from(middle.end())),
            ("cut before the last byte", cut(whole - 1), from(whole - 1)),
            ("a page of zeros", fill(zeros.clone(), 0), overlap(zeros.start, zeros.end.min(whole))),
            ("zeros to the end", fill(middle.start..whole, 0), from(middle.start)),
            ("a record of zeros", fill(middle.start..middle.end(), 0), ids([middle])),
        ];
        for (what, change, lost) in cases {
            if zeros.end > whole && what == "a page of zeros" {
                continue;
            }
            let data = wreck.copy();
            edit(&data.path().join("bodies").join(&middle.file), |bytes| change(bytes));
            wreck.serves(data, &lost, &format!("{what}, active: {active}")).await;
        }
        let data = wreck.copy();
        std::fs::remove_file(data.path().join("bodies").join(&middle.file)).unwrap();
        wreck.serves(data, &ids(&places), &format!("no file, active: {active}")).await;
    }
}

#[actix::test]
async fn what_lies_beyond_the_committed_end_makes_nothing_up() {
    let wreck = Wreck::new().await;
    let last = wreck.records.last().unwrap().clone();
    let file = std::fs::read(wreck.dir.path().join("bodies").join(&last.file)).unwrap();
    let record = file[last.start..last.end()].to_vec();
    let other = wreck.segment(false)[1].clone();
    let elsewhere = std::fs::read(wreck.dir.path().join("bodies").join(&other.file)).unwrap();
    let elsewhere = elsewhere[other.start..other.end()].to_vec();
    let mut damaged = record.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("zeros", vec![0; 10_000]),
        ("noise", (0..10_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
        ("a byte", vec![b'M']),
        ("half a head", record[..30].to_vec()),
        ("half a record", record[..record.len() / 2].to_vec()),
        ("a record but its last byte", record[..record.len() - 1].to_vec()),
        ("a record with a damaged body", damaged.clone()),
        ("a record twice", record.clone()),
        ("a record three times", record.repeat(2)),
        ("a record of another file", elsewhere.clone()),
        ("a damaged record, then a known one, then half of one", [damaged, elsewhere, record[..80].to_vec()].concat()),
        ("a known record, then zeros", [record, vec![0; 4_096]].concat()),
    ];
    for (what, tail) in &cases {
        for name in [&last.file, &other.file] {
            let data = wreck.copy();
            edit(&data.path().join("bodies").join(name), |bytes| bytes.extend_from_slice(tail));
            wreck.serves(data, &HashSet::new(), &format!("{what} behind {name}")).await;
        }
        let data = wreck.copy();
        let path = data.path().join("bodies/00000099.seg");
        std::fs::write(&path, [&file[..usize::try_from(HEADER).unwrap()], tail].concat()).unwrap();
        wreck.serves(data, &HashSet::new(), &format!("{what} in a file of its own")).await;
    }
    for (name, contents) in
        [("00000099.seg", &b""[..]), ("00000099.seg", b"not a segment"), ("notes.txt", b"of someone")]
    {
        let data = wreck.copy();
        std::fs::write(data.path().join("bodies").join(name), contents).unwrap();
        wreck.serves(data, &HashSet::new(), name).await;
    }
    let data = wreck.copy();
    std::fs::write(data.path().join("format"), b"").unwrap();
    wreck.serves(data, &HashSet::new(), "an empty format file").await;
}

#[actix::test]
async fn a_lost_wal_is_made_good_from_the_segments() {
    let wreck = Wreck::new().await;
    let wal = std::fs::metadata(wreck.dir.path().join("mailroom.db-wal")).unwrap().len();
    let wal = usize::try_from(wal).unwrap();
    assert!(wal > 100_000, "the commits are in the WAL: {wal}");
    type Change = Box<dyn Fn(&Path)>;
    let on_wal = |change: fn(&mut Vec<u8>, usize), at: usize| -> Change {
        Box::new(move |data: &Path| edit(&data.join("mailroom.db-wal"), |bytes| change(bytes, at)))
    };
    let cut = |at: usize| on_wal(|bytes, at| bytes.truncate(at), at);
    let flip = |at: usize| on_wal(|bytes, at| bytes[at] ^= 0x40, at);
    let remove = |names: &'static [&'static str]| -> Change {
        Box::new(move |data: &Path| {
            for name in names {
                let _ = std::fs::remove_file(data.join(name));
            }
        })
    };
    let mut cases: Vec<(String, Change)> = vec![
        ("nothing".into(), Box::new(|_: &Path| {})),
        ("no -shm".into(), remove(&["mailroom.db-shm"])),
        ("a -shm of zeros".into(), Box::new(|data| edit(&data.join("mailroom.db-shm"), |bytes| bytes.fill(0)))),
        ("a -shm of noise".into(), Box::new(|data| edit(&data.join("mailroom.db-shm"), |bytes| bytes.fill(0x5a)))),
        ("no WAL".into(), remove(&["mailroom.db-wal"])),
        ("neither WAL nor -shm".into(), remove(&["mailroom.db-wal", "mailroom.db-shm"])),
        ("no database".into(), remove(&["mailroom.db", "mailroom.db-wal", "mailroom.db-shm"])),
        (
            "no database and no search".into(),
            remove(&["mailroom.db", "mailroom.db-wal", "mailroom.db-shm", "search.db"]),
        ),
        ("zeros at the end".into(), on_wal(|bytes, at| bytes[at..].fill(0), wal - 9_000)),
    ];
    let twice = wreck.records.last().unwrap().clone();
    cases.push((
        "no database and a record twice".into(),
        Box::new(move |data| {
            std::fs::remove_file(data.join("mailroom.db")).unwrap();
            std::fs::remove_file(data.join("mailroom.db-wal")).unwrap();
            edit(&data.join("bodies").join(&twice.file), |bytes| bytes.extend_from_within(twice.start..twice.end()));
        }),
    ));
    // A frame is a head of 24 bytes and a page; the file begins with 32 bytes.
    for at in [0, 1, 31, 32, 40, 32 + 24, 32 + 24 + 100, 32 + 4_120, wal / 3, wal / 2, wal - 4_120, wal - 1] {
        cases.push((format!("the WAL cut at {at}"), cut(at)));
    }
    for at in [0, 17, 25, 32 + 5, 32 + 12, wal / 3, wal * 2 / 3, wal - 1] {
        cases.push((format!("a changed byte of the WAL at {at}"), flip(at)));
    }
    let alone = wreck.copy();
    remove(&["mailroom.db-wal", "mailroom.db-shm"])(alone.path());
    std::fs::remove_dir_all(alone.path().join("bodies")).unwrap();
    let server = on(alone.path()).await;
    assert_eq!(server.api().subjects("a@example.com").await, [""; 0], "what is tested is in the WAL alone");
    server.stop().await;
    for (what, change) in cases {
        let data = wreck.copy();
        change(data.path());
        wreck.serves(data, &HashSet::new(), &what).await;
    }
}

#[actix::test]
async fn mail_comes_back_although_its_mailbox_was_lost_with_the_wal() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new(dir.path()).set("MAILROOM__MAILBOXES__ACCESS", "token");
    let server = plan.start().await;
    let made = json!({"address": "made@example.com", "max_messages": 2});
    let answer = server.api().post("/v1/mailboxes", made).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let api = server.api().with_token(answer.json()["token"].as_str().unwrap());
    let mut smtp = server.smtp().await;
    smtp.hello().await;
    let path = "/v1/mailboxes/made@example.com/messages";
    for n in 0..4 {
        let reply = smtp.send("ann@sender.test", &["made@example.com"], message(&n.to_string(), "x").as_bytes()).await;
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
        if n < 2 {
            // There is room for the next although only two may be there.
            let id = api.json(path).await["items"][0]["id"].as_str().unwrap().to_owned();
            assert_eq!(api.delete(&format!("{path}/{id}")).await.status, 204);
        }
    }
    server.kill();
    let whole = std::fs::read(dir.path().join("mailroom.db-wal")).unwrap();
    // The mailbox alone is left, then not even that; its last messages are there in each case.
    for frames in (0..whole.len()).step_by(3 * 4_120) {
        let data = tempfile::tempdir().unwrap();
        copy(dir.path(), data.path());
        edit(&data.path().join("mailroom.db-wal"), |bytes| bytes.truncate(frames));
        let server = on(data.path()).await;
        let subjects = server.api().subjects("made@example.com").await;
        for subject in ["2", "3"] {
            assert!(subjects.iter().any(|there| there == subject), "{subject} of {subjects:?} at {frames}");
        }
        server.stop().await;
    }
}
