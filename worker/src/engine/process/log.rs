//! Following a rank's log.

use super::end::{Standing, await_process};
use super::record::{STDERR_LOG, STDOUT_LOG};
use super::{Inner, node_fault, watch};
use crate::engine::{EngineError, Fault, LogPiece, LogSource};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use muster_domain::id::RankKey;
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

const PIECE_BYTES: usize = 32 << 10;
/// How often a log is looked at where the kernel gives no more watches.
const WITHOUT_WATCH: Duration = Duration::from_millis(200);

/// The whole log, then what comes, until the rank has ended and all is read.
pub(super) fn follow(inner: Arc<Inner>, key: RankKey) -> BoxStream<'static, Result<LogPiece, EngineError>> {
    let follower = Follower { inner, key, streams: [None, None], watch: None, complete: false };
    stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        match follower.next().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(follower))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Follower {
    inner: Arc<Inner>,
    key: RankKey,
    /// Output and errors, opened when they are there. An open file stays readable when it is moved.
    streams: [Option<File>; 2],
    watch: Option<Watch>,
    /// The rank has ended: what is in the files now is all.
    complete: bool,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<LogPiece>, EngineError> {
        loop {
            if let Some(piece) = self.read().map_err(|error| node_fault("the log cannot be read", error))? {
                return Ok(Some(piece));
            }
            if self.complete {
                return Ok(None);
            }
            self.watch_first();
            match self.inner.standing_of(&self.key).await? {
                // The shim wrote the last byte before it wrote the end, so one more look finds all.
                Standing::Ended(..) => self.finish()?,
                Standing::Missing => self.finish()?,
                Standing::Running(_, _, shim) => {
                    if !self.open()? {
                        self.await_change(Some(shim)).await?;
                    }
                }
                Standing::Prepared(_) => self.await_change(None).await?,
            }
        }
    }

    /// The next piece that is there already.
    fn read(&mut self) -> io::Result<Option<LogPiece>> {
        for (file, source) in self.streams.iter_mut().zip([LogSource::Stdout, LogSource::Stderr]) {
            let Some(file) = file else { continue };
            let mut piece = vec![0; PIECE_BYTES];
            let count = file.read(&mut piece)?;
            if count > 0 {
                piece.truncate(count);
                return Ok(Some(LogPiece { source, bytes: Bytes::from(piece) }));
            }
        }
        Ok(None)
    }

    /// Opens what is not open yet. Returns whether that was anything.
    fn open(&mut self) -> Result<bool, EngineError> {
        let folder = self.inner.folder(&self.key).path;
        let mut opened = false;
        for (file, name) in self.streams.iter_mut().zip([STDOUT_LOG, STDERR_LOG]) {
            for place in [folder.join(name), self.inner.kept_log(&self.key, name)] {
                if file.is_some() {
                    break;
                }
                match File::open(place) {
                    Ok(found) => (*file, opened) = (Some(found), true),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(node_fault("the log cannot be opened", error)),
                }
            }
        }
        Ok(opened)
    }

    fn finish(&mut self) -> Result<(), EngineError> {
        self.open()?;
        self.complete = true;
        if self.streams.iter().all(Option::is_none) && !self.inner.folder(&self.key).path.exists() {
            let message = format!("the log of rank {} is not on this node, or no longer kept", self.key);
            return Err(EngineError { fault: Fault::Node, message });
        }
        Ok(())
    }

    /// Begins to watch before the look that may find nothing, so that no change falls in between.
    fn watch_first(&mut self) {
        if self.watch.is_none() {
            let folder = self.inner.folder(&self.key).path;
            self.watch = Some(Watch::new(&folder).unwrap_or(Watch::None));
        }
    }

    async fn await_change(&self, shim: Option<OwnedFd>) -> Result<(), EngineError> {
        let ended = async {
            match shim {
                Some(shim) => await_process(shim).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.watch.as_ref().unwrap_or(&Watch::None).changed() => {
                changed.map_err(|error| node_fault("the log cannot be watched", error))
            }
            ended = ended => ended,
        }
    }
}

/// Tells when something in a folder changes.
enum Watch {
    Folder(AsyncFd<OwnedFd>),
    None,
}

impl Watch {
    fn new(folder: &Path) -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let changes = WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::MOVE_SELF;
        inotify::add_watch(&descriptor, folder, changes)?;
        Ok(Self::Folder(watch::readable(descriptor)?))
    }

    /// Returns after a change since the last call.
    async fn changed(&self) -> io::Result<()> {
        let Self::Folder(descriptor) = self else {
            tokio::time::sleep(WITHOUT_WATCH).await;
            return Ok(());
        };
        let mut ready = descriptor.readable().await?;
        let mut events = [0; 4096];
        // Which they are does not matter: the files are looked at again.
        loop {
            match rustix::io::read(descriptor.get_ref(), &mut events) {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    ready.clear_ready();
                    return Ok(());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
