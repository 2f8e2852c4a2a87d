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
        let usable = self.active.clone().and_then(|(number, file)| {
            let row = self.rows.get(&number)?;
            let young = now.saturating_sub(row.created_at) < micros(config.segment_age.0);
            let room = unsigned(row.committed) < config.segment_size.0;
            (!row.closed && room && young).then(|| Tail { number, offset: unsigned(row.committed), file })
        });
        match usable {
            Some(tail) => Ok(tail),
            None => self.open_next(now),
        }
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
    pub fn close_spent(&mut self, config: &BodiesConfig, now: i64, short: bool) {
        let Some((number, row)) = self.active.as_ref().and_then(|(n, _)| Some((*n, self.rows.get(n)?))) else { return };
        let old = now.saturating_sub(row.created_at) >= micros(config.segment_age.0);
        let sparse = row.live.saturating_mul(100) < row.total.saturating_mul(i64::from(config.compact_below));
        if row.total > 0 && (row.live <= 0 || old || (short && sparse)) {
            self.abandon();
            tracing::debug!(segment = number, "closed before it was full");
        }
    }

    /// Takes out the segments in which nothing lives; their files are to be removed after the commit. A `short` disk does
    /// not wait for readers who know the old place of what was moved: they look it up again.
    pub async fn drop_dead<C: ConnectionTrait>(&mut self, db: &C, short: bool) -> Result<Vec<i64>, DbErr> {
        let moved = |number| self.moved_from.get(number).is_some_and(|at: &Instant| at.elapsed() < AFTER_MOVE);
        let waits = |number| !short && moved(number);
        let dead: Vec<i64> = self
            .rows
            .values()
            .filter(|row| row.closed && row.live <= 0 && !waits(&row.number))
            .map(|row| row.number)
            .collect();
        for number in &dead {
            segment::Entity::delete_by_id(*number).exec(db).await?;
            self.rows.remove(number);
            self.changed.remove(number);
            self.moved_from.remove(number);
        }
        Ok(dead)
    }

    /// Removes files after the commit that removed their rows.
    pub fn remove_files(dir: &Path, numbers: &[i64]) {
        for number in numbers {
            if let Err(error) = std::fs::remove_file(files::path(dir, *number)) {
                tracing::warn!(segment = number, %error, "a dead segment file could not be removed");
            }
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
        let Some((number, file)) = self.active.clone() else { return };
        let cut = match self.rows.get(&number) {
            Some(row) => file.set_len(unsigned(row.committed)),
            None => std::fs::remove_file(files::path(&self.dir, number)),
        };
        if let Err(error) = &cut {
            tracing::error!(segment = number, %error, "what a failed batch wrote could not be cut off");
        }
        if cut.is_err() || !self.rows.contains_key(&number) {
            self.abandon();
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
