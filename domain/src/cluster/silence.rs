//! Nodes that fall silent, and a leader that doubts itself when too many do at once, or when it hears none at all.

use super::Cluster;
use crate::effect::Effect;
use crate::guard::{self, Guard};
use crate::id::NodeName;
use crate::node::Admission;
use crate::time::{Moment, Now};

/// Nodes that fell silent within this time of each other did so at once.
const AT_ONCE_MS: u64 = 60_000;
/// Fewer silent nodes than this say nothing about the leader.
const LEAST_SILENT: usize = 3;
/// The least time between two offers of leadership.
const OFFERED_AGAIN_MS: u64 = 600_000;

impl Cluster {
    /// Nodes that fell silent get nothing new; the jobs on them look at it in their own time.
    pub(super) fn notice_silence(&mut self, now: Now) {
        let mut noticed = false;
        for node in self.nodes.values_mut() {
            let goes_offline_at = node.goes_offline_at(&self.settings, self.awake_since);
            if goes_offline_at.is_some_and(|moment| moment <= now.moment) {
                node.silent = Some(now.moment);
                noticed = true;
            }
        }
        if noticed {
            self.replan = true;
            self.doubt_myself(now.moment);
        }
        if self.doubts_at().is_some_and(|moment| moment <= now.moment) {
            let expected = self.in_service().count();
            self.offer_leadership(format!(
                "none of the {expected} nodes in service has dialled this coordinator since it leads: it is cut off from \
                 them, or all of them are down; look at the network between coordinator and nodes, and at \
                 advertise.fleet of this coordinator"
            ));
        }
    }

    /// When a leader that has heard no node at all doubts itself. A time in which it did not listen does not count, and nodes
    /// that were given back to service a moment ago need time to dial.
    pub(super) fn doubts_at(&self) -> Option<Moment> {
        if self.nodes.values().any(|node| node.heard.is_some()) || self.in_service().count() < LEAST_SILENT {
            return None;
        }
        let decided = self.in_service().filter_map(|name| self.nodes.get(name)).map(|node| node.decided).max()?;
        let expected_at = decided.max(self.awake_since).plus_ms(AT_ONCE_MS);
        Some(self.offered_again_at().map_or(expected_at, |moment| moment.max(expected_at)))
    }

    fn offered_again_at(&self) -> Option<Moment> {
        self.offered_at.map(|moment| moment.plus_ms(OFFERED_AGAIN_MS))
    }

    /// The nodes that no operator took out of service.
    fn in_service(&self) -> impl Iterator<Item = &NodeName> {
        self.records.values().filter(|record| record.admission == Admission::Open).map(|record| &record.name)
    }

    /// A leader that is cut off from most workers is more likely at fault than they are (reliability B.5). Nodes that
    /// operators took out of service may go as they like.
    fn doubt_myself(&mut self, now: Moment) {
        if self.offered_again_at().is_some_and(|moment| now < moment) {
            return;
        }
        let (mut silent, mut heard) = (0_usize, 0_usize);
        for (name, node) in &self.nodes {
            let serves = node.heard.is_some() && self.admission(name) == Admission::Open;
            match node.silent {
                _ if !serves => {}
                None => heard += 1,
                Some(since) => silent += usize::from(now.since_ms(since) < AT_ONCE_MS),
            }
        }
        if silent < LEAST_SILENT || silent <= heard {
            return;
        }
        self.offer_leadership(format!(
            "{silent} of {} nodes fell silent at once: this coordinator is cut off from them, or something that they share \
             has failed; look at the network between coordinator and nodes",
            silent + heard
        ));
    }

    fn offer_leadership(&mut self, reason: String) {
        self.offered_at = Some(self.moment);
        self.alarm(reason.clone());
        self.effects.push(Effect::Yield { reason });
    }

    /// Since when a node is silent: its last report. A time in which this leader did not listen itself does not count.
    pub(super) fn silent_since(&self, name: &NodeName) -> Moment {
        let awake_since = if guard::stands(Guard::TakeoverGrace) { self.awake_since } else { Moment(0) };
        self.nodes.get(name).and_then(|node| node.heard).unwrap_or_default().max(awake_since)
    }
}
