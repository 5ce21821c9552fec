//! Following the logs of a job: every rank's log so far, then live, until the job has ended and all is told
//! (`protocol.md` 5.3). Knows nothing of sockets.

use super::utf8::Utf8Decoder;
use crate::fleet::logs::{LogPiece, LogRelay, LogSource, LogStream};
use crate::handle::{Handle, NotAnswered};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use muster_domain::cluster::{JobLocation, RankLocation};
use muster_domain::id::{Attempt, JobId, Rank};
use std::time::Duration;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

/// As good as no limit.
const FAR_AWAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// How patiently logs are followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How long an ended job's logs may stay out of reach before the rest is given up.
    pub(super) grace_after_end: Duration,
    /// The first pause before a log that broke off is opened again; doubles up to `longest_pause`.
    pub(super) first_pause: Duration,
    /// The longest pause before a log that broke off is opened again.
    pub(super) longest_pause: Duration,
    /// How often a job is looked at although nothing was heard of it: a worker that comes back is no change of the job.
    pub(super) look_again: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            grace_after_end: Duration::from_secs(10),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(4),
            look_again: Duration::from_secs(5),
        }
    }
}

/// Where the ranks of a job are, and when to look again.
pub(super) trait Whereabouts: Sync {
    /// Where they are now; `None` for a job that is not known.
    fn locate(&self, job: JobId) -> impl Future<Output = Result<Option<JobLocation>, NotAnswered>> + Send;
    /// Jobs that moved on.
    fn changes(&self) -> broadcast::Receiver<JobId>;
}

impl Whereabouts for Handle {
    async fn locate(&self, job: JobId) -> Result<Option<JobLocation>, NotAnswered> {
        self.query(move |cluster, _| cluster.location(&job)).await
    }

    fn changes(&self) -> broadcast::Receiver<JobId> {
        Handle::changes(self)
    }
}

/// A piece of a rank's log as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogText {
    /// Whose.
    pub(super) rank: Rank,
    /// Which of its streams.
    pub(super) source: LogSource,
    /// Whole characters; never empty.
    pub(super) text: String,
}

/// How following came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The job has ended and all its logs are told.
    Ended,
    /// No such job.
    Unknown,
    /// This coordinator no longer knows about jobs; another one may.
    Stopping,
    /// Nobody listens any more.
    Abandoned,
}

/// Tells the logs of `job` to `told` until the job has ended and all is told. Dropping the future stops it.
pub(super) async fn follow<W: Whereabouts>(
    whereabouts: &W,
    logs: &LogRelay,
    job: &JobId,
    told: &mpsc::Sender<LogText>,
    pace: Pace,
) -> Outcome {
    // Subscribed before the first look, so that no change falls between the two.
    let changes = whereabouts.changes();
    let first = match whereabouts.locate(job.clone()).await {
        Ok(Some(location)) => location,
        Ok(None) => return Outcome::Unknown,
        Err(NotAnswered) => return Outcome::Stopping,
    };
    let replicas = first.replicas;
    let (look, location) = watch::channel(first);
    let restless = Notify::new();
    let mut ranks: FuturesUnordered<_> = (0..replicas)
        .map(|rank| {
            let follower = Follower {
                rank,
                logs,
                location: location.clone(),
                restless: &restless,
                told,
                pace,
                attempt: 0,
                complete: false,
                stdout: Progress::default(),
                stderr: Progress::default(),
                pause: pace.first_pause,
                heard_at: Instant::now(),
            };
            follower.run()
        })
        .collect();
    let all = async {
        while let Some(told) = ranks.next().await {
            told?;
        }
        Ok(())
    };
    tokio::select! {
        outcome = all => match outcome {
            Ok(()) => Outcome::Ended,
            Err(Abandoned) => Outcome::Abandoned,
        },
        () = keep_looking(whereabouts, job, changes, &restless, &look, pace) => Outcome::Stopping,
        () = told.closed() => Outcome::Abandoned,
    }
}

/// Keeps `look` up to date; returns when the driver has stopped.
async fn keep_looking<W: Whereabouts>(
    whereabouts: &W,
    job: &JobId,
    mut changes: broadcast::Receiver<JobId>,
    restless: &Notify,
    look: &watch::Sender<JobLocation>,
    pace: Pace,
) {
    let mut clock = tokio::time::interval(pace.look_again);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok(changed) if changed != *job => continue,
                // After a lag the change may have been among those that were missed.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
            () = restless.notified() => {}
            _ = clock.tick() => {}
        }
        let Ok(seen) = whereabouts.locate(job.clone()).await else { return };
        look.send_if_modified(|location| {
            // A job that was forgotten has ended long ago.
            let seen = seen.unwrap_or_else(|| JobLocation { ended: true, ..location.clone() });
            let modified = *location != seen;
            *location = seen;
            modified
        });
    }
}

/// Nobody listens any more.
struct Abandoned;

/// What to do next about a rank.
enum Next {
    /// Read the log of this container from this stream.
    Read(RankLocation),
    /// Its worker is away, or it has not started.
    Wait,
    /// There is nothing more to tell.
    Done,
}

/// Follows one rank through its attempts.
struct Follower<'a> {
    rank: Rank,
    logs: &'a LogRelay,
    location: watch::Receiver<JobLocation>,
    restless: &'a Notify,
    told: &'a mpsc::Sender<LogText>,
    pace: Pace,
    /// The attempt that is being told; 0 before the first.
    attempt: Attempt,
    /// Whether the log of that attempt was told to its end.
    complete: bool,
    stdout: Progress,
    stderr: Progress,
    pause: Duration,
    /// When the log last brought something.
    heard_at: Instant,
}

/// How far one stream of one attempt was told.
#[derive(Default)]
struct Progress {
    decoder: Utf8Decoder,
    /// Bytes taken from the log so far.
    taken: u64,
    /// Bytes that the present reading repeats and that are passed over.
    to_skip: u64,
}

impl Progress {
    /// A new reading begins at the log's beginning.
    fn again(&mut self) {
        self.to_skip = self.taken;
    }

    fn take(&mut self, bytes: &[u8]) -> String {
        let skipped = self.to_skip.min(bytes.len() as u64);
        self.to_skip -= skipped;
        // At most the length of `bytes`, so it fits.
        let fresh = &bytes[skipped as usize..];
        self.taken += fresh.len() as u64;
        self.decoder.push(fresh)
    }
}

impl Follower<'_> {
    async fn run(mut self) -> Result<(), Abandoned> {
        let mut ended_at = None;
        loop {
            if self.location.borrow_and_update().ended && ended_at.is_none() {
                ended_at = Some(Instant::now());
            }
            match self.next() {
                Next::Done => return Ok(()),
                Next::Read(place) => {
                    if self.read(&place).await? {
                        continue;
                    }
                    // The worker may be on its way back under another stream.
                    self.restless.notify_one();
                    let pause = self.pause;
                    self.pause = (pause * 2).min(self.pace.longest_pause);
                    // No event says when a log that broke off can be read again, except a change of place.
                    let _ = tokio::time::timeout(pause, self.location.changed()).await;
                }
                Next::Wait => {
                    // Only the end sets a limit; `follow` owns the sender, so `changed` does not fail.
                    let limit = ended_at.map_or(FAR_AWAY, |_| self.pace.grace_after_end);
                    let _ = tokio::time::timeout(limit, self.location.changed()).await;
                }
            }
            if ended_at.is_some_and(|at| at.max(self.heard_at).elapsed() >= self.pace.grace_after_end) {
                tracing::debug!(rank = self.rank, "the rest of a log is out of reach");
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Next {
        let location = self.location.borrow();
        let place = location.ranks.iter().find(|place| place.key.rank == self.rank);
        match place {
            None if location.ended => Next::Done,
            None => Next::Wait,
            Some(place) => {
                if place.key.attempt != self.attempt {
                    self.attempt = place.key.attempt;
                    self.complete = false;
                    (self.stdout, self.stderr) = (Progress::default(), Progress::default());
                    self.pause = self.pace.first_pause;
                }
                match (self.complete, place.started) {
                    (true, _) | (_, false) if location.ended => Next::Done,
                    (true, _) | (_, false) => Next::Wait,
                    _ if place.session.is_none() => Next::Wait,
                    _ => Next::Read(place.clone()),
                }
            }
        }
    }

    /// Reads the log of one container as far as it goes. `true`: to its end, or until another attempt began.
    async fn read(&mut self, place: &RankLocation) -> Result<bool, Abandoned> {
        let Some(session) = place.session else { return Ok(false) };
        let mut stream = match self.logs.open(session, place.key.clone()).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(key = %place.key, %error, "a log cannot be opened yet");
                return Ok(false);
            }
        };
        self.stdout.again();
        self.stderr.again();
        loop {
            match self.piece_or_move(&mut stream).await {
                Step::Piece(piece) => self.tell(piece).await?,
                Step::Ended => {
                    self.complete = true;
                    return Ok(true);
                }
                Step::Moved => return Ok(true),
                Step::Broken => return Ok(false),
            }
        }
    }

    async fn piece_or_move(&mut self, stream: &mut LogStream) -> Step {
        let (rank, attempt) = (self.rank, self.attempt);
        tokio::select! {
            // What was written is told before a new attempt is looked at.
            biased;
            piece = stream.next() => match piece {
                Some(Ok(piece)) => Step::Piece(piece),
                Some(Err(error)) => {
                    tracing::debug!(rank, attempt, %error, "a log broke off");
                    Step::Broken
                }
                None => Step::Ended,
            },
            _ = self.location.wait_for(|location| {
                location.ranks.iter().any(|place| place.key.rank == rank && place.key.attempt != attempt)
            }) => Step::Moved,
        }
    }

    async fn tell(&mut self, piece: LogPiece) -> Result<(), Abandoned> {
        let progress = match piece.source {
            LogSource::Stdout => &mut self.stdout,
            LogSource::Stderr => &mut self.stderr,
        };
        let text = progress.take(&piece.bytes);
        self.pause = self.pace.first_pause;
        self.heard_at = Instant::now();
        if text.is_empty() {
            return Ok(());
        }
        self.told.send(LogText { rank: self.rank, source: piece.source, text }).await.map_err(|_| Abandoned)
    }
}

/// What came next while a log was read.
enum Step {
    Piece(LogPiece),
    Ended,
    Moved,
    Broken,
}
