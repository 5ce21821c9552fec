//! One durable file, one coordinator, no other service.
//!
//! redb allows one writer; a thread of its own does all writing, so that `fdatasync` never blocks the runtime. A second
//! process that opens the file is refused by the lock on it. The leader's term is a counter in the same file, compared
//! inside each transaction, so that a stale writer could not write even if the lock failed.

use super::document::{self, BadDocument};
use super::{Space, Store, StoreError};
use futures_util::future::BoxFuture;
use muster_domain::effect::{Documents, Write};
use muster_domain::id::Term;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const JOBS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("jobs");
const NODES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("nodes");
const SCHEMA_KEY: &str = "schema_version";
const TERM_KEY: &str = "term";
/// The layout of the file. A file of a later layout is refused.
const SCHEMA: u64 = 1;
/// Documents of one transaction: fewer would wait for the disk more often, more would keep the first ones waiting.
const BATCH_DOCUMENTS: usize = 1024;
/// redb's page cache. The brain holds every document in memory, so the cache only serves writing.
const CACHE_BYTES: usize = 8 << 20;

/// Why the file cannot be used. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("store {path} is in use by another coordinator; stop that one, or set store.path to another file")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Written by a later version.
    #[error(
        "store {path} was written by a newer version of Muster (schema {found}, this version knows {SCHEMA}); \
         run that version or restore a backup"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u64,
    },
    /// No file could be made or read there.
    #[error("store {path} cannot be opened: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What went wrong and what to do.
        why: String,
        /// Whether the same start may go well later, as when a disk was full.
        may_pass: bool,
    },
}

impl OpenError {
    /// Whether another start will not help before an operator has mended something.
    #[must_use]
    pub fn needs_an_operator(&self) -> bool {
        match self {
            // The process before this one may be about to end.
            Self::InUse { .. } => false,
            Self::Newer { .. } => true,
            Self::Unusable { may_pass, .. } => !may_pass,
        }
    }
}

enum Request {
    Load(oneshot::Sender<Result<Documents, StoreError>>),
    NextTerm(oneshot::Sender<Result<Term, StoreError>>),
    Close(oneshot::Sender<Result<(), StoreError>>),
    Commit { term: Term, writes: Vec<Write>, done: oneshot::Sender<Result<(), StoreError>> },
}

/// The store. Cheap to clone; the file is closed when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Embedded {
    requests: mpsc::Sender<Request>,
    path: Arc<Path>,
}

impl Embedded {
    /// Opens or makes the file, and the directory it lies in. Blocks.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let unusable = |(why, may_pass): (String, bool)| OpenError::Unusable { path: path.to_owned(), why, may_pass };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(|error| {
                let why = format!("directory {} cannot be made: {error}", parent.display());
                unusable((why, may_pass(error.kind())))
            })?;
        }
        let opening = Database::builder().set_cache_size(CACHE_BYTES).create(path);
        let database = opening.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.to_owned() },
            other => unusable(cause(other.into())),
        })?;
        let found = prepare(&database).map_err(|error| unusable(cause(error)))?;
        if found > SCHEMA {
            return Err(OpenError::Newer { path: path.to_owned(), found });
        }
        let (requests, queue) = mpsc::channel(16);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || serve(database, queue))
            .map_err(|error| unusable((format!("no thread for it: {error}"), true)))?;
        Ok(Self { requests, path: path.into() })
    }

    /// Takes the next term, durably. Called once per start.
    pub async fn next_term(&self) -> Result<Term, StoreError> {
        self.ask(Request::NextTerm).await
    }

    /// Closes the file now, for all clones, and waits until it can be opened again.
    pub async fn close(self) -> Result<(), StoreError> {
        self.ask(Request::Close).await
    }

    async fn ask<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let stopped = || StoreError::Unknown(format!("the thread of store {} has stopped", self.path.display()));
        let (done, answer) = oneshot::channel();
        self.requests.send(make(done)).await.map_err(|_| stopped())?;
        let answer = answer.await.map_err(|_| stopped())?;
        answer.map_err(|error| match error {
            StoreError::Failed(why) => StoreError::Failed(format!("store {}: {why}", self.path.display())),
            StoreError::Unknown(why) => StoreError::Unknown(format!("store {}: {why}", self.path.display())),
            StoreError::Unreadable(why) => StoreError::Unreadable(format!("store {}: {why}", self.path.display())),
            StoreError::Fenced { .. } | StoreError::Conflict(_) | StoreError::Refused(_) => error,
        })
    }
}

impl Store for Embedded {
    fn load(&self, _term: Term) -> BoxFuture<'_, Result<Documents, StoreError>> {
        Box::pin(self.ask(Request::Load))
    }

    fn commit(&self, term: Term, writes: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(move |done| Request::Commit { term, writes, done }))
    }

    fn batch_documents(&self) -> usize {
        BATCH_DOCUMENTS
    }

    fn space(&self) -> watch::Receiver<Option<Space>> {
        watch::Sender::new(None).subscribe()
    }
}

/// Makes the tables of a new file; returns the layout's version.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let found = {
        let mut meta = transaction.open_table(META)?;
        let found = meta.get(SCHEMA_KEY)?.map(|value| value.value());
        match found {
            Some(found) => found,
            None => {
                meta.insert(SCHEMA_KEY, SCHEMA)?;
                SCHEMA
            }
        }
    };
    if found > SCHEMA {
        transaction.abort()?;
        return Ok(found);
    }
    transaction.open_table(JOBS)?;
    transaction.open_table(NODES)?;
    transaction.commit()?;
    Ok(found)
}

/// The writer thread: one request at a time, until it is told to close or every sender is gone.
fn serve(database: Database, mut queue: mpsc::Receiver<Request>) {
    while let Some(request) = queue.blocking_recv() {
        // An asker that has gone away does not need the answer.
        match request {
            Request::Load(done) => drop(done.send(load(&database))),
            Request::NextTerm(done) => drop(done.send(next_term(&database).map_err(failed))),
            Request::Commit { term, writes, done } => drop(done.send(commit(&database, term, &writes))),
            Request::Close(done) => {
                drop(database);
                drop(done.send(Ok(())));
                return;
            }
        }
    }
}

fn load(database: &Database) -> Result<Documents, StoreError> {
    Ok(Documents {
        jobs: rows(database, JOBS, "job", document::decode)?,
        nodes: rows(database, NODES, "node", document::decode_node)?,
    })
}

fn rows<T>(
    database: &Database,
    table: TableDefinition<'_, &str, &[u8]>,
    what: &str,
    decode: fn(&[u8]) -> Result<T, BadDocument>,
) -> Result<Vec<T>, StoreError> {
    let read = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
        let table = database.begin_read()?.open_table(table)?;
        let mut rows = Vec::new();
        for row in table.iter()? {
            let (key, value) = row?;
            rows.push((key.value().to_owned(), value.value().to_owned()));
        }
        Ok(rows)
    };
    let decoded = read().map_err(failed)?.into_iter().map(|(key, bytes)| {
        decode(&bytes).map_err(|error| StoreError::Unreadable(format!("document of {what} {key}: {error}")))
    });
    decoded.collect()
}

fn next_term(database: &Database) -> Result<Term, redb::Error> {
    let transaction = database.begin_write()?;
    let term = {
        let mut meta = transaction.open_table(META)?;
        let term = meta.get(TERM_KEY)?.map_or(0, |value| value.value()) + 1;
        meta.insert(TERM_KEY, term)?;
        term
    };
    transaction.commit()?;
    Ok(term)
}

fn commit(database: &Database, term: Term, writes: &[Write]) -> Result<(), StoreError> {
    let encoded: Vec<Change<'_>> = writes
        .iter()
        .map(|write| match write {
            Write::Job(job) => Ok((true, job.spec.id.as_str(), Some(document::encode(job)?))),
            Write::ForgetJob(id) => Ok((true, id.as_str(), None)),
            Write::Node(node) => Ok((false, node.name.as_str(), Some(document::encode_node(node)?))),
            Write::ForgetNode(name) => Ok((false, name.as_str(), None)),
        })
        .collect::<Result<_, BadDocument>>()
        .map_err(|error| StoreError::Failed(error.to_string()))?;
    let transaction = database.begin_write().map_err(|error| failed(error.into()))?;
    let held = change(&transaction, term, &encoded).map_err(failed)?;
    if held != term {
        return Err(StoreError::Fenced { held, ours: term });
    }
    // A commit that reports an error may have reached the disk all the same.
    transaction.commit().map_err(|error| StoreError::Unknown(words_of(error.into())))
}

/// Whether it is a job's row (else a node's), its key and its new content; `None` removes it.
type Change<'a> = (bool, &'a str, Option<Vec<u8>>);

/// Applies the changes if the file holds `term`; returns the term it holds.
fn change(transaction: &redb::WriteTransaction, term: Term, changes: &[Change<'_>]) -> Result<Term, redb::Error> {
    let held = transaction.open_table(META)?.get(TERM_KEY)?.map_or(0, |value| value.value());
    if held == term {
        let (mut jobs, mut nodes) = (transaction.open_table(JOBS)?, transaction.open_table(NODES)?);
        for (is_job, key, bytes) in changes {
            let rows = if *is_job { &mut jobs } else { &mut nodes };
            match bytes {
                Some(bytes) => rows.insert(*key, bytes.as_slice())?,
                None => rows.remove(*key)?,
            };
        }
    }
    Ok(held)
}

/// Why a file cannot be opened, what to do, and whether that may pass by itself.
fn cause(error: redb::Error) -> (String, bool) {
    use std::io::ErrorKind;
    const RESTORE: &str = "restore a backup, or set store.path to the right file";
    match error {
        redb::Error::UpgradeRequired(found) => {
            (format!("its file format {found} is not one that this version reads; {RESTORE}"), false)
        }
        // Damaged, or never a store.
        redb::Error::Corrupted(_) | redb::Error::TableTypeMismatch { .. } | redb::Error::TableIsMultimap(_) => {
            (format!("{error}; it is damaged or no store of Muster: {RESTORE}"), false)
        }
        redb::Error::Io(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            (format!("{error}; it is damaged or no store of Muster: {RESTORE}"), false)
        }
        redb::Error::Io(error) => {
            let passes = may_pass(error.kind());
            (words(&StorageError::Io(error)), passes)
        }
        other => (words_of(other), false),
    }
}

/// Whether a start that failed so may go well later although nobody mends anything on purpose.
fn may_pass(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind;
    !matches!(
        kind,
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::AlreadyExists
    )
}

fn failed(error: redb::Error) -> StoreError {
    StoreError::Failed(words_of(error))
}

fn words_of(error: redb::Error) -> String {
    match error {
        redb::Error::Io(error) => words(&StorageError::Io(error)),
        redb::Error::DatabaseClosed => "the file is closed".to_owned(),
        other => other.to_string(),
    }
}

/// A storage error, with what an operator can do about it.
fn words(error: &StorageError) -> String {
    use std::io::ErrorKind;
    let StorageError::Io(io) = error else { return error.to_string() };
    match io.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!("the disk is full ({io}); free space and start again")
        }
        ErrorKind::PermissionDenied => {
            format!("permission denied ({io}); the coordinator's user must own file and directory")
        }
        ErrorKind::ReadOnlyFilesystem => format!("the file system is read-only ({io})"),
        _ => io.to_string(),
    }
}

#[cfg(test)]
#[path = "embedded_tests.rs"]
mod tests;
