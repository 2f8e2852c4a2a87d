//! `mailroom export` and `mailroom archive` as an operator runs them, and what others read of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use mailroom::mail::units::Bytes;
use mailroom::store::{Config, MessagePatch, Scope};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::check::look;
use crate::store_suite::support::{Fixture, key, mail};

fn run(data: &Path, cold: Option<&Path>, arguments: &[&str]) -> Output {
    command(data, cold, arguments).output().unwrap()
}

fn command(data: &Path, cold: Option<&Path>, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailroom"));
    command.args(arguments).arg("--data").arg(data).env("MAILROOM__DATABASE__MIN_FREE", "1B");
    if let Some(cold) = cold {
        command
            .env("MAILROOM__COLD__URL", format!("file://{}", cold.display()))
            .env("MAILROOM__COLD__OBJECT_SIZE", "64KiB")
            .env("MAILROOM__COLD__KEEP", "0s");
    }
    command
}

fn well(output: Output) -> (String, String) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    (out.into_owned(), err.into_owned())
}

fn refused(output: &Output, code: i32, with: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
    assert!(err.contains(with), "{err}");
}

/// Messages that are hard on a format: quoted lines, no end of line, no body, bytes above 127, large.
fn hard() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "Subject: plain\r\n\r\ntext\r\n",
        "Subject: from\r\n\r\nFrom here\r\n>From there\r\n>>From anywhere\r\n\r\nFrom\r\nFromage\r\n",
        "Subject: empty\r\n\r\n",
        "Subject: ends\r\n\r\n\r\n\r\n",
        "From someone\r\nSubject: a header that looks like the first line\r\n\r\nx\r\n",
        "Subject: =?utf-8?q?=C3=A9?=\r\n\r\n\u{e9}\u{4e2d}\r\n",
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    all.push(b"Subject: bytes\r\n\r\n\xff\xfe\x80 \r\n".to_vec());
    all.push([b"Subject: large\r\n\r\n".to_vec(), b"0123456789abcdef\r\n".repeat(60_000)].concat());
    all
}

/// What Python's `mailbox` reads: one hex text for each message, in order.
fn python(script: &str, arguments: &[&Path]) -> Vec<Vec<u8>> {
    let output = Command::new("python3").arg("-c").arg(script).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    out.lines()
        .map(|line| (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect())
        .collect()
}

/// Takes the quoting of mboxrd away and gives lines CR LF again.
fn unquoted(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let quotes = line.iter().take_while(|byte| **byte == b'>').count();
        let line = if quotes > 0 && line[quotes..].starts_with(b"From ") { &line[1..] } else { line };
        out.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[tokio::test]
async fn an_mbox_reads_back_byte_for_byte() {
    let fixture = Fixture::new().await;
    let hard = hard();
    let mut ids = Vec::new();
    for raw in &hard {
        ids.push(fixture.put(&["a@x.test"], raw).await.unwrap());
    }
    let read = MessagePatch { is_read: Some(true), tags: Some(vec!["to do".into(), "x".into()]) };
    fixture.store.update_message(&key("a@x.test"), ids[0], read).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("out.mbox");
    // Beside the store that is open here.
    let arguments = ["export", "--mailbox", "A@x.test", "--format", "mbox", "--exact"];
    let (_, told) = well(run(fixture.dir.path(), None, &[&arguments[..], &[file.to_str().unwrap()]].concat()));
    assert!(told.contains(&format!("wrote {} messages", hard.len())), "{told}");
    const READ: &str = "import mailbox,sys\nfor m in mailbox.mbox(sys.argv[1]).iterkeys() and [mailbox.mbox(sys.argv[1])][0:1]:\n for k in m.keys(): print(m.get_bytes(k).hex())";
    let found: Vec<_> = python(READ, &[&file]).iter().map(|text| unquoted(text)).collect();
    assert_eq!(found.len(), hard.len());
    for (found, raw) in found.iter().zip(&hard) {
        assert_eq!(found, raw, "{:?}", String::from_utf8_lossy(&raw[..raw.len().min(60)]));
    }
    refused(
        &run(fixture.dir.path(), None, &[&arguments[..], &[file.to_str().unwrap()]].concat()),
        73,
        "overwrites nothing",
    );

    // To standard output, with what the store knows.
    let out = run(fixture.dir.path(), None, &["export", "--all", "--format", "mbox", "-"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.starts_with("From "), "{text}");
    assert!(text.contains("\nStatus: RO\nX-Keywords: to do, x\nDelivered-To: a@x.test\nSubject: plain\n"));
    assert_eq!(text.matches("\nStatus: O\n").count(), hard.len() - 1);
}

#[tokio::test]
async fn a_maildir_has_flags_and_reads_back_byte_for_byte() {
    let fixture = Fixture::new().await;
    let hard = hard();
    let mut ids = Vec::new();
    for raw in &hard {
        ids.push(fixture.put(&["a@x.test", "b/c@x.test"], raw).await.unwrap());
    }
    let store = &fixture.store;
    let patch = |is_read, tags: &[&str]| MessagePatch {
        is_read,
        tags: Some(tags.iter().map(|tag| (*tag).to_owned()).collect()),
    };
    store.update_message(&key("a@x.test"), ids[0], patch(Some(true), &[])).await.unwrap();
    store.update_message(&key("a@x.test"), ids[1], patch(Some(true), &["later", "to do"])).await.unwrap();
    store.update_message(&key("a@x.test"), ids[2], patch(None, &["to do"])).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("mail");
    let arguments = ["export", "--all", "--format", "maildir", out.to_str().unwrap()];
    well(run(fixture.dir.path(), None, &arguments));
    const READ: &str = "import mailbox,sys\nm=mailbox.Maildir(sys.argv[1],create=False)\nfor k in sorted(m.keys(), key=lambda k: int(k.split('.')[1].split('_')[0])): print((m.get_bytes(k)+m.get_message(k).get_flags().encode()+b'|'+m.get_message(k).get_subdir().encode()).hex())";
    for (mailbox, flags) in
        [("a@x.test", [("S", "cur"), ("Sab", "cur"), ("b", "cur"), ("", "new")]), ("b%2Fc@x.test", [("", "new"); 4])]
    {
        let found = python(READ, &[&out.join(mailbox)]);
        assert_eq!(found.len(), hard.len());
        for (n, (found, raw)) in found.iter().zip(&hard).enumerate() {
            let (flags, place) = flags[n.min(3)];
            // Python's module turns line ends as the system has them, which here changes nothing.
            assert_eq!(found, &[raw.as_slice(), format!("{flags}|{place}").as_bytes()].concat(), "{n}");
        }
    }
    assert_eq!(std::fs::read_to_string(out.join("a@x.test/dovecot-keywords")).unwrap(), "0 later\n1 to_do\n");
    assert_eq!(out.join("a@x.test/tmp").read_dir().unwrap().count(), 0);
    refused(&run(fixture.dir.path(), None, &arguments), 73, "overwrites nothing");
}

#[tokio::test]
async fn eml_files_are_what_was_received_and_only_what_was_asked_for() {
    let fixture = Fixture::new().await;
    let (mut of_a, hard) = (BTreeMap::new(), hard());
    for raw in &hard {
        of_a.insert(fixture.put(&["a@x.test"], raw).await.unwrap().to_string(), raw.clone());
    }
    fixture.put(&["b@x.test"], mail(7).as_bytes()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let export = |name: &str, more: &[&str]| {
        let out = place.path().join(name);
        let arguments = [&["export", "--format", "eml", out.to_str().unwrap()], more].concat();
        well(run(fixture.dir.path(), None, &arguments));
        files(&out)
    };
    let all = export("all", &["--mailbox", "a@x.test"]);
    assert_eq!(all.len(), hard.len());
    for path in &all {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(&std::fs::read(path).unwrap(), &of_a[&name[9..]]);
    }
    assert_eq!(export("words", &["--all", "--query", "number"]).len(), 1);
    assert_eq!(export("subject", &["--all", "--query", "subject:large larger:1000"]).len(), 1);
    assert_eq!(export("young", &["--all", "--since", "1h"]).len(), hard.len() + 1);
    assert_eq!(export("old", &["--all", "--before", "1h"]).len(), 0);
    assert_eq!(export("text", &["--mailbox", "a@x.test", "--query", "0123456789abcdef"]).len(), 1);
    let data = fixture.dir.path();
    let out = place.path().join("none");
    let out = out.to_str().unwrap();
    refused(&run(data, None, &["export", "--all", "--format", "eml", "-"]), 64, "standard output");
    refused(&run(data, None, &["export", "--mailbox", "nobody@x.test", "--format", "eml", out]), 69, "no mailbox");
    refused(&run(data, None, &["export", "--mailbox", "@", "--format", "eml", out]), 64, "no address");
    refused(&run(data, None, &["export", "--all", "--query", "larger:x", "--format", "eml", out]), 64, "larger");
    assert!(!Path::new(out).exists());
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            found.push(path);
        } else if !path.ends_with("probe") {
            found.extend(files(&path));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_the_rest_is_written() {
    let fixture = Fixture::with(|config| config.bodies.segment_size = Bytes(1)).await;
    fixture.fill("a@x.test", 1).await;
    fixture.fill("a@x.test", 1).await;
    let file = std::fs::File::options().write(true).open(fixture.bodies().join("00000001.seg")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"#", 150).unwrap();
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("out");
    let output = run(fixture.dir.path(), None, &["export", "--all", "--format", "eml", out.to_str().unwrap()]);
    refused(&output, 1, "left out: mailbox a@x.test, uid 1: damaged: segment 1");
    assert_eq!(files(&out).len(), 1);
}

/// The most memory that a command took, in KiB.
fn memory(mut command: Command) -> u64 {
    const MEASURE: &str = "import resource,subprocess,sys\nsubprocess.run(sys.argv[1:],check=True,stdout=sys.stderr)\nprint(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let mut measured = Command::new("python3");
    measured.arg("-c").arg(MEASURE).arg(command.get_program()).args(command.get_args());
    measured.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdout(Stdio::null());
    let (out, _) = well(measured.output().unwrap());
    out.trim().parse().unwrap()
}

#[tokio::test]
async fn sixty_thousand_messages_take_no_more_memory_than_twenty_thousand() {
    // Nobody searches here, and to index this much takes longer than all else.
    let fixture = Fixture::with(|config| config.search.enabled = false).await;
    // A body holds the names of all its mailboxes, and is read for each of them: a hundred, so that this is not what takes long.
    let many: Vec<String> = (0..100).map(|n| format!("many{n:02}@x.test")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let raw = format!("Subject: {}\r\n\r\n", "x".repeat(900));
    let put = async |count| {
        let all = futures_util::future::join_all((0..count).map(|_| fixture.put(&many, raw.as_bytes()))).await;
        assert!(all.iter().all(Result::is_ok));
    };
    // Enough to fill SQLite's page caches of 8 MiB a connection.
    put(200).await;
    let place = tempfile::tempdir().unwrap();
    let export = |name: &str| {
        let out = place.path().join(name);
        let kib =
            memory(command(fixture.dir.path(), None, &["export", "--all", "--format", "mbox", out.to_str().unwrap()]));
        (kib, std::fs::read_to_string(out).unwrap().matches("\nSubject: xxx").count())
    };
    let (little, written) = export("few");
    assert_eq!(written, 20_000);
    put(400).await;
    let (much, written) = export("many");
    assert_eq!(written, 60_000);
    println!("20,000 messages took {little} KiB, 60,000 took {much} KiB");
    assert!(
        much < little + 8 * 1_024 && much < 96 * 1_024,
        "20,000 messages took {little} KiB, 60,000 took {much} KiB"
    );
}

/// Hardly compresses: each byte is six bits of chance.
fn noise(n: usize, length: usize) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(n as u64);
    // Not words, or all of it would be indexed.
    let mut raw = format!("Subject: noise {n}\r\nContent-Type: application/octet-stream\r\n\r\n").into_bytes();
    let end = raw.len() + length;
    // Eight at a time, each of 64 signs from `!` on.
    while raw.len() < end {
        raw.extend(((random.next_u64() & 0x3f3f_3f3f_3f3f_3f3f) + 0x2121_2121_2121_2121).to_le_bytes());
    }
    raw.truncate(end);
    raw
}

fn with_cold(cold: &Path) -> impl Fn(&mut Config) {
    let url = format!("file://{}", cold.display());
    move |config| config.cold.url.clone_from(&url)
}

#[tokio::test]
async fn archive_moves_with_little_memory_and_says_how_much() {
    let cold = tempfile::tempdir().unwrap();
    let fixture = Fixture::with(with_cold(cold.path())).await;
    let mut ids = Vec::new();
    for n in 0..1_000 {
        ids.push(fixture.put(&["a@x.test"], &noise(n, 150_000)).await.unwrap());
    }
    let arguments = ["archive", "--older-than", "0"];
    let data = fixture.dir.path();
    refused(&run(data, Some(cold.path()), &arguments), 75, "a running server moves old mail itself");
    fixture.store.close().await;
    refused(&run(data, None, &arguments), 78, "[cold] url");
    refused(&run(data, Some(cold.path()), &["archive"]), 64, "--older-than");
    let kib = memory(command(data, Some(cold.path()), &arguments));
    let bytes: u64 = files(cold.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
    println!("archive of {bytes} bytes took {kib} KiB");
    assert!(bytes > 100 << 20 && kib < 100 << 10, "{bytes} bytes with {kib} KiB");
    let (out, _) = well(run(data, Some(cold.path()), &arguments));
    assert!(out.starts_with("moved 0 messages"), "{out}");
    let mut fixture = fixture;
    fixture.open().await;
    for n in (0..1_000).step_by(100) {
        assert_eq!(fixture.raw("a@x.test", ids[n]).await, noise(n, 150_000));
    }
}

#[tokio::test]
async fn killed_at_any_moment_it_loses_nothing() {
    let cold = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::with(with_cold(cold.path())).await;
    let mut ids = Vec::new();
    for n in 0..1_500 {
        ids.push(fixture.put(&["a@x.test"], &noise(n, 2_000)).await.unwrap());
    }
    fixture.store.close().await;
    let data = fixture.dir.path().to_owned();
    let mut killed = 0;
    for round in 0..60 {
        let mut child = command(&data, Some(cold.path()), &["archive", "--older-than", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Later and later, until it is quicker than that.
        tokio::time::sleep(Duration::from_millis(20 + 15 * round)).await;
        child.kill().unwrap();
        let status = child.wait().unwrap();
        if status.success() {
            break;
        }
        killed += 1;
        if round % 10 == 9 {
            assert_eq!(look(&fixture.config).await.1, [], "after {killed} times");
        }
    }
    assert!(killed > 5, "killed {killed} times");
    well(run(&data, Some(cold.path()), &["archive", "--older-than", "0"]));
    well(run(&data, Some(cold.path()), &["archive", "--older-than", "0"]));
    let (summary, found) = look(&fixture.config).await;
    assert_eq!((summary.whole, found), (1_500, Vec::new()));
    assert_eq!(summary.objects, files(cold.path()).len() as u64, "no object without a row");
    fixture.open().await;
    for (n, id) in ids.iter().enumerate().step_by(50) {
        assert_eq!(fixture.raw("a@x.test", *id).await, noise(n, 2_000));
    }
}

#[tokio::test]
async fn a_restored_backup_reads_the_same_objects_and_leaves_the_original_its_own() {
    let cold = tempfile::tempdir().unwrap();
    let fixture = Fixture::with(|config| {
        with_cold(cold.path())(config);
        config.cold.keep = "0".parse().unwrap();
    })
    .await;
    let ids = fixture.fill("a@x.test", 30).await;
    let archive = async |store: &mailroom::store::Store| {
        let before = crate::store_suite::support::after(1);
        store.archive(before, mailroom::store::cold::pass::Which::All, &mut |_| {}).await.unwrap()
    };
    archive(&fixture.store).await;
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("copy");
    let (out, _) = well(run(fixture.dir.path(), Some(cold.path()), &["backup", copy.to_str().unwrap()]));
    assert!(out.contains("not copied: 1 objects") && out.contains("nothing is damaged"), "{out}");
    let (out, _) = well(run(fixture.dir.path(), None, &["check", "--no-cold"]));
    assert!(out.contains("30 in object storage were not looked at"), "{out}");
    assert!(out.contains("nothing that was looked at is damaged"), "{out}");
    // Nobody asked for that: it is said, once, and the check fails.
    let checked = run(fixture.dir.path(), None, &["check"]);
    let out = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!((checked.status.code(), out.lines().count()), (Some(1), 2), "{out}");
    assert!(out.starts_with("not looked at: 30 messages") && !out.contains("damaged:"), "{out}");

    let mut config = Config { data: copy, ..fixture.config.clone() };
    let restored = mailroom::store::Store::open(&config, fixture.heard.clone(), fixture.faults.clone()).await.unwrap();
    for (n, id) in ids.iter().enumerate() {
        let message = restored.message(&key("a@x.test"), *id).await.unwrap().unwrap();
        assert_eq!(restored.body(&message).await.unwrap(), mail(n).as_bytes());
    }
    // What the copy needs no more the original does.
    restored.delete_messages(&key("a@x.test"), mailroom::store::Deletion::All).await.unwrap();
    archive(&restored).await;
    archive(&restored).await;
    assert_eq!(files(cold.path()).len(), 1);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(fixture.raw("a@x.test", *id).await, mail(n).as_bytes());
    }
    // Unless the original is gone for good.
    restored.close().await;
    drop(restored);
    config.cold.after = mailroom::mail::units::Limit(None);
    well(run(&config.data, Some(cold.path()), &["archive", "--older-than", "1d", "--adopt"]));
    assert_eq!(files(cold.path()).len(), 0);
    let all =
        mailroom::store::ListRequest { scope: Scope::All, ..crate::store_suite::support::request("a@x.test", 100) };
    assert_eq!(fixture.store.list(&all).await.unwrap().items.len(), 30);
}

/// The backup knows of an object that is being written and not of the rows that are pointed there right after.
#[tokio::test]
async fn a_copy_leaves_alone_what_its_original_was_just_writing() {
    let cold = tempfile::tempdir().unwrap();
    let fixture = Fixture::with(|config| {
        with_cold(cold.path())(config);
        config.cold.keep = "0".parse().unwrap();
    })
    .await;
    let ids = fixture.fill("a@x.test", 30).await;
    let archive = async |store: &mailroom::store::Store, before: i64| {
        let before = crate::store_suite::support::after(before);
        store.archive(before, mailroom::store::cold::pass::Which::All, &mut |_| {}).await
    };
    fixture.faults.arm(mailroom::store::Fault::ColdWritten);
    assert!(archive(&fixture.store, 1).await.is_err());
    let written = files(cold.path());
    assert_eq!(written.len(), 1);
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("copy");
    well(run(fixture.dir.path(), Some(cold.path()), &["backup", copy.to_str().unwrap()]));

    let config = Config { data: copy, ..fixture.config.clone() };
    let restored = mailroom::store::Store::open(&config, fixture.heard.clone(), fixture.faults.clone()).await.unwrap();
    archive(&restored, -3_600).await.unwrap().unwrap();
    assert_eq!(files(cold.path()), written, "it is the original's");
    for (n, id) in ids.iter().enumerate() {
        let message = restored.message(&key("a@x.test"), *id).await.unwrap().unwrap();
        assert_eq!(restored.body(&message).await.unwrap(), mail(n).as_bytes());
    }
    restored.close().await;
    assert_eq!(look(&config).await.0.objects, 0, "the copy knows nothing of it any more");
    // The original itself clears it away and writes another.
    archive(&fixture.store, 1).await.unwrap().unwrap();
    assert!(!written[0].exists());
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(fixture.raw("a@x.test", *id).await, mail(n).as_bytes());
    }
}
