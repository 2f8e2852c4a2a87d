//! Reads one body from object storage; knows from the database which object it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use entity::object;
use sea_orm::{DatabaseConnection, EntityTrait};
use tokio::runtime::Handle;

use super::metrics as names;
use super::{Cold, ColdError, tidy};
use crate::mail::id::DeliveryId;
use crate::seldom::Seldom;
use crate::store::messages::BodyLocation;
use crate::store::{StoreError, bodies, columns, unavailable};

/// What is unpacked on a blocking thread.
const LARGE: usize = 64 << 10;

/// The number of the object that a place names, if it names one: negative segments are objects.
#[must_use]
pub const fn object_of(at: BodyLocation) -> Option<i64> {
    if at.segment < 0 { Some(-at.segment) } else { None }
}

/// How long a part of a search waits for texts in object storage, all together.
const SEARCHING: Duration = Duration::from_secs(2);
/// How long the index waits for one.
const INDEXING: Duration = Duration::from_secs(10);

/// So often the log says that bodies could not be read.
static TOLD: Seldom = Seldom::every(Duration::from_secs(60));

/// See the module. Clones read the same.
#[derive(Clone, Debug)]
pub struct Reader {
    cold: Option<Cold>,
    /// Bodies lie in object storage, and there is none.
    is_unnamed: Arc<AtomicBool>,
    db: DatabaseConnection,
    /// Where requests run: those who ask may be on threads that wait for nothing else.
    runtime: Option<Handle>,
}

/// How long a search may wait for texts, all together.
#[derive(Clone, Copy, Debug)]
pub struct Patience(Instant);

impl Patience {
    /// From now on.
    #[must_use]
    pub fn search() -> Self {
        Self(Instant::now() + SEARCHING)
    }

    /// For one text of many, none of which is waited for by anyone.
    #[must_use]
    pub fn index() -> Self {
        Self(Instant::now() + INDEXING)
    }
}

impl Reader {
    pub fn new(cold: Option<Cold>, db: DatabaseConnection) -> Self {
        Self { cold, is_unnamed: Arc::default(), db, runtime: Handle::try_current().ok() }
    }

    /// Looks whether bodies lie where nobody reads them, and says so.
    pub async fn begin(&self) {
        if self.cold.is_none() && tidy::any(&self.db).await.unwrap_or(false) {
            self.unnamed();
        }
    }

    fn unnamed(&self) {
        self.is_unnamed.store(true, Ordering::Relaxed);
        if let Some(left_out) = TOLD.turn() {
            tracing::error!(left_out, "bodies lie in object storage, and [cold] url names none: they cannot be read");
        }
    }

    /// Why what has moved cannot be read; the outer is none where there is no storage and nothing is missed.
    pub fn condition(&self) -> Option<Option<String>> {
        match &self.cold {
            Some(cold) => Some(cold.trouble().map(str::to_owned)),
            None => {
                let is_unnamed = self.is_unnamed.load(Ordering::Relaxed);
                is_unnamed.then(|| Some("old bodies lie in object storage, and [cold] url names none".into()))
            }
        }
    }

    /// The storage itself, if there is one.
    #[must_use]
    pub const fn cold(&self) -> Option<&Cold> {
        self.cold.as_ref()
    }

    /// The message whose record lies in object `number`, byte for byte as it was received.
    ///
    /// # Errors
    /// `Unnamed` where there is no storage, `Away` while it does not answer; `Damaged` when the object is missing or holds
    /// something else there; `NotFound` when the database does not know the object (any more).
    pub async fn read(&self, number: i64, at: (i64, i64), id: DeliveryId) -> Result<Bytes, StoreError> {
        let object = object::Entity::find_by_id(number).one(&self.db).await.map_err(unavailable)?;
        let object = object.ok_or(StoreError::NotFound)?;
        let Some(cold) = &self.cold else {
            self.unnamed();
            return Err(StoreError::Unnamed);
        };
        let (offset, length) = (columns::unsigned(at.0), columns::unsigned(at.1));
        let bytes = match cold.read(&object.name, offset..offset.saturating_add(length)).await {
            Ok(bytes) => bytes,
            Err(ColdError::Away(why)) => {
                if let Some(left_out) = TOLD.turn() {
                    tracing::warn!(
                        url = cold.shown(),
                        reason = why,
                        left_out,
                        "a body could not be read from object storage"
                    );
                }
                return Err(StoreError::Away(why));
            }
            Err(error) => return Err(StoreError::Damaged(error.to_string())),
        };
        let large = bytes.len() > LARGE;
        let unpack = move || bodies::message_of(&bytes, id);
        let raw = match large {
            true => tokio::task::spawn_blocking(unpack).await.unwrap_or_else(|error| Err(error.to_string())),
            false => unpack(),
        };
        raw.map(Into::into).map_err(|what| StoreError::Damaged(format!("object {} at {offset}: {what}", object.name)))
    }

    /// The same for a search, which goes without after a moment.
    ///
    /// # Errors
    /// As [`Reader::read`], and `Damaged` when the storage takes too long.
    pub async fn soon(&self, number: i64, at: (i64, i64), id: DeliveryId) -> Result<Bytes, StoreError> {
        let without = || StoreError::Damaged("object storage takes too long".into());
        let read = match self.cold.as_ref().is_some_and(Cold::is_away) {
            true => Err(without()),
            false => match tokio::time::timeout(SEARCHING, self.read(number, at, id)).await {
                Ok(Err(StoreError::Unavailable(_) | StoreError::Unnamed | StoreError::Away(_))) => Err(without()),
                Ok(read) => read,
                Err(_) => {
                    self.leave_alone();
                    Err(without())
                }
            },
        };
        if read.is_err() {
            ::metrics::counter!(names::UNREADABLE).increment(1);
        }
        read
    }

    /// The same for a search, on a thread that may wait: nothing when it takes longer than `patience`, or the storage did
    /// not answer a moment ago.
    pub fn text(&self, (number, at): (i64, (i64, i64)), id: DeliveryId, patience: Patience) -> Result<Bytes, String> {
        let read = self.ask(number, at, id, patience);
        if read.is_err() {
            ::metrics::counter!(names::UNREADABLE).increment(1);
        }
        read
    }

    fn leave_alone(&self) {
        if let Some(cold) = &self.cold {
            cold.leave_alone();
        }
    }

    fn ask(&self, number: i64, at: (i64, i64), id: DeliveryId, patience: Patience) -> Result<Bytes, String> {
        let left = patience.0.saturating_duration_since(Instant::now());
        if left.is_zero() || self.cold.as_ref().is_some_and(Cold::is_away) {
            return Err("object storage takes too long".into());
        }
        let runtime = self.runtime.as_ref().ok_or("nothing runs that could ask object storage")?;
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        let reader = Arc::new(self.clone());
        let asked = runtime.spawn(async move {
            // Who asked may have given up.
            let _ = answer.send(reader.read(number, at, id).await);
        });
        match answered.recv_timeout(left) {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(_) => {
                asked.abort();
                self.leave_alone();
                Err("object storage takes too long".into())
            }
        }
    }
}
