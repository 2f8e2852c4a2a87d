//! The data directory: room, speed of a sync, and the database in it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Check;
use crate::config::Config;
use crate::mail::units::Bytes;
use crate::store::{self, Inspection};

/// Syncs that are timed; the median counts.
const SYNCS: usize = 20;

/// A group of messages waits for two syncs; above this a client notices.
const SLOW_SYNC: Duration = Duration::from_millis(20);

/// All of them.
pub fn checks(config: &Config) -> Vec<Check> {
    let data = &config.runtime.data;
    let existing = existing_parent(data);
    vec![space(&existing, config), sync_time(data, &existing), database(config)]
}

/// The directory itself, or the nearest one above it that is there.
fn existing_parent(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    absolute.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/")).into()
}

fn space(directory: &Path, config: &Config) -> Check {
    let stat = match rustix::fs::statvfs(directory) {
        Ok(stat) => stat,
        Err(error) => return Check::fail("disk", format!("{}: {error}", directory.display()), "mount it"),
    };
    let free = stat.f_bavail * stat.f_frsize;
    let need = config.database.min_free.0;
    let found = format!("{} MiB free at {}", free >> 20, directory.display());
    let advice = format!("receiving stops below {} ([database] min_free): make room", Bytes(need));
    if stat.f_files > 0 && stat.f_favail < 1_000 {
        return Check::fail("disk", format!("{found}, but {} inodes", stat.f_favail), "delete small files");
    }
    Check::floor("disk", free, need, need.saturating_mul(8).max(Bytes::gib(1).0), found, advice)
}

fn sync_time(data: &Path, existing: &Path) -> Check {
    if let Some(file) = data.ancestors().find(|path| path.exists()).filter(|path| !path.is_dir()) {
        let found = format!("{} is not a directory", file.display());
        return Check::fail("data directory", found, "choose another with --data");
    }
    match time_syncs(existing) {
        Err(error) => Check::fail(
            "data directory",
            format!("{} cannot be written: {error}", data.display()),
            "give this user the right to write there, or choose another with --data",
        ),
        Ok(median) if median > SLOW_SYNC => Check::warn(
            "data directory",
            format!("{} is writable; a sync takes {:.1} ms", data.display(), millis(median)),
            "every message waits for two syncs: use a disk with a write cache that survives a power cut",
        ),
        Ok(median) => Check::ok(
            "data directory",
            format!("{} is writable; a sync takes {:.2} ms", data.display(), millis(median)),
        ),
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// The median time of writing and syncing one block, in a file that is removed again.
fn time_syncs(directory: &Path) -> io::Result<Duration> {
    let path = directory.join(format!(".mailroom-doctor-{}", std::process::id()));
    let file = File::create_new(&path)?;
    let timed = time_writes(file);
    std::fs::remove_file(&path)?;
    timed
}

fn time_writes(mut file: File) -> io::Result<Duration> {
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[0x5a; 4_096])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(SYNCS / 2).copied().unwrap_or_default())
}

fn database(config: &Config) -> Check {
    match store::quick_check(&config.store()) {
        Ok(Inspection::Missing(path)) => {
            Check::ok("database", format!("{} is not there yet: serve makes it", path.display()))
        }
        Ok(Inspection::Sound(path)) => Check::ok("database", format!("{} is sound", path.display())),
        Ok(Inspection::Damaged(path, problems)) => Check::fail(
            "database",
            format!("{}: {}", path.display(), problems.join("; ")),
            "stop the server and restore the latest backup; `mailroom check` tells what is affected",
        ),
        Err(error) => {
            Check::fail("database", error.to_string(), "see that this user may read it, and that it is a mailroom's")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_directory_that_is_not_there_is_judged_by_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        assert_eq!(existing_parent(&data), dir.path());
        assert_eq!(sync_time(&data, &existing_parent(&data)).level, Level::Ok);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_file_in_its_place_fails() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for data in [file.path().to_owned(), file.path().join("data")] {
            let check = sync_time(&data, &existing_parent(&data));
            assert_eq!(
                (check.level, check.found),
                (Level::Fail, format!("{} is not a directory", file.path().display()))
            );
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_fails() {
        let check = sync_time(Path::new("/proc/x"), Path::new("/proc"));
        assert_eq!(check.level, Level::Fail);
        assert!(check.found.contains("/proc/x"), "{}", check.found);
    }
}
