//! An engine that can be taken away.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use muster_domain::id::RankKey;
use muster_domain::peers::PeerFiles;
use muster_domain::rank::{Assignment, RankEnd};
use muster_domain::time::Moment;
use muster_worker::engine::fake::FakeEngine;
use muster_worker::engine::{Engine, EngineError, EngineInfo, Fault, Found, LogPiece};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A fake engine behind a switch. Clones share everything.
#[derive(Clone, Default)]
pub(crate) struct Flaky {
    pub(crate) engine: FakeEngine,
    pub(crate) down: Arc<AtomicBool>,
    /// The next start panics.
    pub(crate) start_panics: Arc<AtomicBool>,
    /// Calls that were made while it was down.
    pub(crate) in_vain: Arc<AtomicU32>,
    pub(crate) removals: Arc<AtomicU32>,
}

impl Flaky {
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    fn there<'a, T>(&self, call: BoxFuture<'a, Result<T, EngineError>>) -> BoxFuture<'a, Result<T, EngineError>> {
        if !self.down.load(Ordering::SeqCst) {
            return call;
        }
        self.in_vain.fetch_add(1, Ordering::SeqCst);
        async { Err(EngineError { fault: Fault::Unavailable, message: "the engine is away".into() }) }.boxed()
    }
}

impl Engine for Flaky {
    fn describe(&self) -> BoxFuture<'_, Result<EngineInfo, EngineError>> {
        self.there(self.engine.describe())
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, EngineError>> {
        self.there(self.engine.list())
    }

    fn prepare<'a>(&'a self, assignment: &'a Assignment) -> BoxFuture<'a, Result<String, EngineError>> {
        self.there(self.engine.prepare(assignment))
    }

    fn start<'a>(&'a self, key: &'a RankKey, files: &'a PeerFiles) -> BoxFuture<'a, Result<Moment, EngineError>> {
        if self.start_panics.swap(false, Ordering::SeqCst) {
            panic!("a mistake inside of the engine");
        }
        self.there(self.engine.start(key, files))
    }

    fn wait<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(RankEnd, u64), EngineError>> {
        self.there(self.engine.wait(key))
    }

    fn terminate<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>> {
        self.there(self.engine.terminate(key))
    }

    fn kill<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>> {
        self.there(self.engine.kill(key))
    }

    fn remove<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>> {
        if !self.down.load(Ordering::SeqCst) {
            self.removals.fetch_add(1, Ordering::SeqCst);
        }
        self.there(self.engine.remove(key))
    }

    fn logs(&self, key: &RankKey) -> BoxStream<'static, Result<LogPiece, EngineError>> {
        self.engine.logs(key)
    }
}
