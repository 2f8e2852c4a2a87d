//! The files beside the database: segments, and the search index, which can always be made again.

use std::io;
use std::path::Path;

use entity::segment;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, EntityTrait};

use super::totals::statement;
use super::{Check, Finding};
use crate::store::bodies::segment as files;
use crate::store::connect;

/// The numbers of the segment files that are there; none when there is no directory.
pub fn files(dir: &Path) -> io::Result<Vec<i64>> {
    match files::numbers(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        numbers => numbers,
    }
}

impl Check<'_> {
    /// Every segment that is needed has its file, every file is known.
    pub(super) async fn files(&mut self, found: &[i64]) -> Result<(), DbErr> {
        let mut rows: Vec<segment::Model> = self.segments.values().map(|used| used.row.clone()).collect();
        rows.sort_unstable_by_key(|row| row.number);
        let last = rows.last().map_or(0, |row| row.number);
        for row in rows {
            if let Some(finding) = self.file(&row).await? {
                self.found(&finding.of_segment(row.number));
            }
        }
        let dir = self.directory.bodies.clone();
        let unknown: Vec<i64> = found.iter().copied().filter(|number| !self.segments.contains_key(number)).collect();
        for number in unknown {
            // A server may have begun it since, or be about to remove it.
            let known = segment::Entity::find_by_id(number).one(&self.db).await?.is_some();
            if known || !files::path(&dir, number).exists() {
                continue;
            }
            let finding = if number > last {
                Finding::notice("the database does not know this file: the next start takes in what is whole")
            } else {
                Finding::damage("the database does not know this file, which takes space and is not needed")
            };
            self.found(&finding.of_segment(number));
        }
        Ok(())
    }

    async fn file(&self, row: &segment::Model) -> Result<Option<Finding>, DbErr> {
        let length = match std::fs::metadata(files::path(&self.directory.bodies, row.number)) {
            Ok(file) => i64::try_from(file.len()).unwrap_or(i64::MAX),
            // The server removes the file first, then the row.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && row.closed && row.live <= 0 => {
                return Ok(None);
            }
            Err(error) => {
                let gone = segment::Entity::find_by_id(row.number).one(&self.db).await?.is_none();
                return Ok((!gone).then(|| Finding::damage(format!("its file cannot be opened: {error}"))));
            }
        };
        if let Err(error) = files::open_to_read(&self.directory.bodies, row.number) {
            return Ok(Some(Finding::damage(error.to_string())));
        }
        if length < row.committed {
            let why = format!("its file has {length} bytes, and {} are committed", row.committed);
            return Ok(Some(Finding::damage(why)));
        }
        let now = segment::Entity::find_by_id(row.number).one(&self.db).await?;
        let committed = now.map_or(length, |now| now.committed);
        Ok((length > committed).then(|| {
            let beyond = length - committed;
            Finding::notice(format!(
                "{beyond} bytes lie beyond what is committed: mail that is being stored, or was not answered"
            ))
        }))
    }

    /// The search index; none is no finding.
    pub(super) async fn search(&mut self) {
        let path = self.directory.search.clone();
        if !path.exists() {
            return;
        }
        let checked = async {
            let db = connect::reading(&path, 1).await?;
            let checked = self.search_state(&db).await;
            db.close().await?;
            checked
        };
        match checked.await {
            Ok(None) => {}
            Ok(Some(finding)) => self.found(&finding),
            Err(error) => self.found(&Finding::damage(format!(
                "search index: {error} (it holds no mail: remove search.db and it is made again)"
            ))),
        }
    }

    async fn search_state(&self, db: &DatabaseConnection) -> Result<Option<Finding>, DbErr> {
        let tables = db.query_all_raw(statement("SELECT name FROM sqlite_master WHERE name = 'state'", [])).await?;
        if tables.is_empty() {
            return Ok(Some(Finding::notice("the search index is not made yet: the server makes it")));
        }
        let state = db.query_one_raw(statement("SELECT lineage, position FROM state WHERE id = 1", [])).await?;
        let state = state.ok_or_else(|| DbErr::Custom("it does not say how far it is".into()))?;
        let (lineage, position): (i64, i64) = (state.try_get_by_index(0)?, state.try_get_by_index(1)?);
        let rows = db.query_all_raw(statement("PRAGMA integrity_check(10)", [])).await?;
        let said = rows.iter().map(|row| row.try_get_by_index::<String>(0)).collect::<Result<Vec<_>, _>>()?;
        if said != ["ok"] {
            return Err(DbErr::Custom(said.join("; ")));
        }
        if lineage != self.meta.lineage {
            return Ok(Some(Finding::notice("the search index is of another history: the next start makes it anew")));
        }
        let sql = "SELECT stamp FROM meta WHERE id = 1";
        let head = self.db.query_one_raw(statement(sql, [])).await?;
        let head: i64 = head.map_or(Ok(0), |row| row.try_get_by_index(0))?;
        if position > head {
            let why = format!(
                "the search index is at {position}, ahead of the store at {head}: the next start makes it anew"
            );
            return Ok(Some(Finding::notice(why)));
        }
        Ok(None)
    }
}
