//! Who reaches whom, and how long it takes.

use crate::random::Random;

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Store,
    Core,
    Coordinator(usize),
    Worker(usize),
}

/// One end of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Store,
    Core,
    Coordinator(usize),
    Worker(usize),
    Workers,
}

impl End {
    fn holds(self, place: Place) -> bool {
        match (self, place) {
            (Self::Store, Place::Store) | (Self::Core, Place::Core) | (Self::Workers, Place::Worker(_)) => true,
            (Self::Coordinator(a), Place::Coordinator(b)) | (Self::Worker(a), Place::Worker(b)) => a == b,
            _ => false,
        }
    }
}

/// Nothing passes from one end to the other until then.
#[derive(Clone, Copy, Debug)]
struct Cut {
    from: End,
    to: End,
    until: u64,
}

#[derive(Debug)]
pub(crate) struct Network {
    latency_ms: u64,
    cuts: Vec<Cut>,
}

impl Network {
    pub(crate) fn new(latency_ms: u64) -> Self {
        Self { latency_ms, cuts: Vec::new() }
    }

    pub(crate) fn cut(&mut self, from: End, to: End, until: u64) {
        self.cuts.push(Cut { from, to, until });
    }

    pub(crate) fn heal(&mut self, t: u64) {
        self.cuts.retain(|cut| cut.until > t);
    }

    /// Until when nothing passes, if so.
    pub(crate) fn blocked(&self, t: u64, from: Place, to: Place) -> Option<u64> {
        let hits = self.cuts.iter().filter(|cut| cut.until > t && cut.from.holds(from) && cut.to.holds(to));
        hits.map(|cut| cut.until).max()
    }

    /// What a message usually takes.
    pub(crate) fn latency(&self, random: &mut Random) -> u64 {
        1 + random.below(self.latency_ms * 2)
    }
}
