//! The segment files as the writer keeps them: which one is appended to, how much of each is committed and still needed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use entity::segment;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ConnectionTrait, DbErr, EntityTrait, IntoActiveModel};

use super::transaction::Failure;
use crate::store::bodies::segment as files;
use crate::store::columns::{micros, signed, unsigned};
use crate::store::config::BodiesConfig;
use crate::store::faults::{Fault, Faults};

/// How long readers may still use the old place of a body that was moved.
const AFTER_MOVE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Segments {
    dir: PathBuf,
    rows: BTreeMap<i64, segment::Model>,
    changed: BTreeSet<i64>,
    active: Option<(i64, Arc<File>)>,
    /// Above every number that was ever used.
    next: i64,
    /// Segments that live bodies were moved out of, and when.
    moved_from: HashMap<i64, Instant>,
    /// Those that the transaction under way appends to.
    touched: BTreeMap<i64, Arc<File>>,
    /// Those in which something of a failed transaction is left, because it could not be cut off.
    uncut: BTreeMap<i64, Arc<File>>,
    /// Those whose file is removed for good; their rows go next.
    removed: BTreeSet<i64>,
}

/// Where the bytes of a transaction go: the end of the active segment.
#[derive(Clone, Debug)]
pub struct Tail {
    pub number: i64,
    pub offset: u64,
    file: Arc<File>,
}

impl Segments {
    /// Knows nothing of the rows yet: [`Segments::reload`].
    pub fn new(dir: &Path, next: i64) -> Self {
        Self {
            dir: dir.to_owned(),
            rows: BTreeMap::new(),
            changed: BTreeSet::new(),
            active: None,
            next,
            moved_from: HashMap::new(),
            touched: BTreeMap::new(),
            uncut: BTreeMap::new(),
            removed: BTreeSet::new(),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub async fn reload<C: ConnectionTrait>(&mut self, db: &C) -> Result<(), DbErr> {
        self.rows = segment::Entity::find().all(db).await?.into_iter().map(|row| (row.number, row)).collect();
        self.changed.clear();
        self.next = self.rows.keys().next_back().map_or(self.next, |last| self.next.max(last + 1));
        Ok(())
    }

    /// The place to append to, in a segment that is neither full nor old.
    pub fn tail(&mut self, config: &BodiesConfig, now: i64) -> Result<Tail, Failure> {
        for (number, file) in std::mem::take(&mut self.uncut) {
            self.cut(number, file);
        }
        let usable = self.active.clone().and_then(|(number, file)| {
            let row = self.rows.get(&number)?;
            let young = now.saturating_sub(row.created_at) < micros(config.segment_age.0);
            let room = unsigned(row.committed) < config.segment_size.0;
            (!row.closed && room && young).then(|| Tail { number, offset: unsigned(row.committed), file })
        });
        let tail = match usable {
            Some(tail) => tail,
            None => self.open_next(now)?,
        };
        self.touched.insert(tail.number, Arc::clone(&tail.file));
        Ok(tail)
    }

    /// The transaction was committed.
    pub fn committed(&mut self) {
        self.touched.clear();
    }

    fn open_next(&mut self, now: i64) -> Result<Tail, Failure> {
        let number = self.next;
        self.next += 1;
        let file = Arc::new(files::create(&self.dir, number, now).map_err(Failure::Bodies)?);
        self.active = Some((number, file.clone()));
        for row in self.rows.values_mut().filter(|row| !row.closed) {
            row.closed = true;
            self.changed.insert(row.number);
        }
        let committed = signed(files::HEADER);
        self.rows
            .insert(number, segment::Model { number, created_at: now, committed, live: 0, total: 0, closed: false });
        self.changed.insert(number);
        Ok(Tail { number, offset: files::HEADER, file })
    }

    /// Counts bytes that the transaction appends to `number`.
    pub fn appended(&mut self, number: i64, bytes: u64) {
        self.with(number, |row| row.committed += signed(bytes));
    }

    /// Counts a row that points at a record of `bytes` in `number`.
    pub fn born(&mut self, number: i64, bytes: i64) {
        self.with(number, |row| {
            row.live += bytes;
            row.total += bytes;
        });
    }

    /// Counts a row that no longer does.
    pub fn died(&mut self, number: i64, bytes: i64) {
        self.with(number, |row| row.live -= bytes);
    }

    /// Counts `bytes` of rows that point into another segment now.
    pub fn moved(&mut self, number: i64, bytes: i64) {
        self.died(number, bytes);
        self.moved_from.insert(number, Instant::now());
    }

    fn with(&mut self, number: i64, change: impl FnOnce(&mut segment::Model)) {
        if let Some(row) = self.rows.get_mut(&number) {
            change(row);
            self.changed.insert(number);
        }
    }

    /// Takes a segment found in the directory, or the rest of a known one, as committed up to `end`.
    pub fn adopt(&mut self, number: i64, end: u64, now: i64) {
        self.rows.entry(number).or_insert(segment::Model {
            number,
            created_at: now,
            committed: 0,
            live: 0,
            total: 0,
            closed: true,
        });
        self.with(number, |row| row.committed = signed(end));
    }

    /// Continues to append to the newest open segment after a start.
    pub fn resume(&mut self) {
        let open = self.rows.values().rfind(|row| !row.closed).map(|row| row.number);
        self.active = open.and_then(|number| Some((number, Arc::new(files::open(&self.dir, number).ok()?))));
    }

    pub fn rows(&self) -> impl Iterator<Item = &segment::Model> {
        self.rows.values()
    }

    /// Closes the active segment when nothing in it is needed any more, when it is old, or when it is mostly dead and the
    /// disk is `short`: only closed ones are emptied and removed, and no mail may come that would open the next.
    pub fn close_spent(&mut self, config: &BodiesConfig, now: i64, short: bool) -> bool {
        let active = self.active.as_ref().and_then(|(number, _)| Some((*number, self.rows.get(number)?)));
        let Some((number, row)) = active else { return false };
        let old = now.saturating_sub(row.created_at) >= micros(config.segment_age.0);
        let sparse = row.live.saturating_mul(100) < row.total.saturating_mul(i64::from(config.compact_below));
        let spent = row.total > 0 && (row.live <= 0 || old || (short && sparse));
        if spent {
            self.abandon();
            tracing::debug!(segment = number, "closed before it was full");
        }
        spent
    }

    /// Segments in which nothing lives, as of the last commit. A `short` disk does not wait for readers who know the old
    /// place of what was moved: they look it up again.
    pub fn dead(&self, short: bool) -> Vec<i64> {
        let dead = |row: &&segment::Model| {
            let moved = self.moved_from.get(&row.number).is_some_and(|at| at.elapsed() < AFTER_MOVE);
            let waits = self.changed.contains(&row.number) || self.removed.contains(&row.number) || (moved && !short);
            row.closed && row.live <= 0 && !waits
        };
        self.rows.values().filter(dead).map(|row| row.number).collect()
    }

    /// Removes the files of dead segments, after a commit.
    pub fn remove_files(&mut self, dead: &[i64]) {
        if dead.is_empty() {
            return;
        }
        let mut gone = Vec::with_capacity(dead.len());
        for number in dead {
            match std::fs::remove_file(files::path(&self.dir, *number)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(segment = number, %error, "a dead segment file could not be removed");
                }
                _ => gone.push(*number),
            }
        }
        // A row that went before its file would leave a file without one, which is taken for lost mail.
        match files::sync_directory(&self.dir) {
            Ok(()) => self.removed.extend(gone),
            Err(error) => tracing::warn!(%error, "the directory of bodies could not be synced"),
        }
    }

    /// A row whose file was removed before the last stop.
    pub fn was_removed(&mut self, number: i64) -> bool {
        let dead = self.rows.get(&number).is_some_and(|row| row.closed && row.live <= 0);
        dead && self.removed.insert(number)
    }

    /// Removes the rows of those whose files are gone; [`Segments::forget`] follows the commit.
    pub async fn forget_removed<C: ConnectionTrait>(&mut self, db: &C) -> Result<Vec<i64>, DbErr> {
        let removed: Vec<i64> = self.removed.iter().copied().collect();
        for number in &removed {
            segment::Entity::delete_by_id(*number).exec(db).await?;
            self.rows.remove(number);
            self.changed.remove(number);
        }
        Ok(removed)
    }

    /// Their rows are gone too.
    pub fn forget(&mut self, numbers: &[i64]) {
        for number in numbers {
            self.removed.remove(number);
            self.moved_from.remove(number);
        }
    }

    pub async fn write<C: ConnectionTrait>(&mut self, db: &C) -> Result<(), DbErr> {
        use segment::Column;
        let rows: Vec<_> = std::mem::take(&mut self.changed).iter().filter_map(|n| self.rows.get(n).cloned()).collect();
        for row in rows {
            let mut conflict = OnConflict::column(Column::Number);
            conflict.update_columns([Column::Committed, Column::Live, Column::Total, Column::Closed]);
            let row = row.into_active_model();
            segment::Entity::insert(row).on_conflict(conflict).exec_without_returning(db).await?;
        }
        Ok(())
    }

    /// Cuts what a failed transaction appended; the rows are those of the database.
    pub fn truncate(&mut self) {
        for (number, file) in std::mem::take(&mut self.touched) {
            self.cut(number, file);
        }
    }

    /// Cuts a segment to its committed end, and removes one that was never committed.
    fn cut(&mut self, number: i64, file: Arc<File>) {
        let row = self.rows.get(&number);
        let cut = match row {
            Some(row) => file.set_len(unsigned(row.committed)),
            None => match std::fs::remove_file(files::path(&self.dir, number)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        };
        if (cut.is_err() || row.is_none()) && self.active.as_ref().is_some_and(|(active, _)| *active == number) {
            self.abandon();
        }
        if let Err(error) = cut {
            tracing::error!(segment = number, %error, "what a failed batch wrote could not be cut off yet");
            self.uncut.insert(number, file);
        }
    }

    /// Never appends to the active segment again: its pages may be lost without another error.
    pub fn abandon(&mut self) {
        if let Some((number, _)) = self.active.take() {
            self.with(number, |row| row.closed = true);
        }
    }

    /// Leaves the active segment as it is, for the next start to look through.
    pub fn leave(&mut self) {
        self.active = None;
        self.touched.clear();
        self.uncut.clear();
    }
}

/// Writes `bytes` at `tail` and syncs them.
pub fn append(tail: &Tail, bytes: &[u8], faults: &Faults) -> Result<(), Failure> {
    if faults.take(Fault::NoSpace) {
        return Err(Failure::Bodies(std::io::ErrorKind::StorageFull.into()));
    }
    tail.file.write_all_at(bytes, tail.offset).map_err(Failure::Bodies)?;
    if faults.take(Fault::Sync) {
        return Err(Failure::Sync(std::io::Error::other("asked to fail the sync")));
    }
    tail.file.sync_data().map_err(Failure::Sync)
}
