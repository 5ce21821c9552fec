//! The names of coordinators: each is taken by one process at a time, under a lease of its own.

use super::client::Etcd;
use super::failure::CallError;
use super::keys::Keys;
use super::leader::Entry;
use super::meta::{get, gets, txn};
use super::patience::{Patience, Trouble};
use super::thread::keep_alive;
use super::{EtcdError, probe};
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use muster_domain::leadership::LeaseId;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks at a name that another one holds.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// So many renewals of its lease prove that the other process lives. A new leader of etcd renews every lease, too (reliability
/// F9), but not so often within one life of it.
const RENEWALS: u32 = 3;

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It is ours, under this lease.
    Ours(LeaseId),
    /// Another process has it.
    Taken { by: Option<Entry>, lease: LeaseId },
}

/// Tries once to take the name.
pub(super) async fn attempt(etcd: &Etcd, keys: &Keys, me: &Entry, ttl_s: i64) -> Result<Attempt, CallError> {
    let key = keys.coordinator(&me.identity.name);
    let found = etcd.call(|client| get(client, key.clone())).await?;
    // A lease is asked for only if it looks as if it were needed.
    if let Some(pair) = found.kvs().first() {
        return Ok(judge(pair, me));
    }
    let lease = etcd.call(|mut client| async move { client.lease_grant(ttl_s, None).await }).await?.id();
    let text = serde_json::to_vec(me).unwrap_or_default();
    let taking = Txn::new()
        .when([Compare::create_revision(key.as_str(), CompareOp::Equal, 0)])
        .and_then([TxnOp::put(key.as_str(), text, Some(PutOptions::new().with_lease(lease)))])
        .or_else([TxnOp::get(key.as_str(), None)]);
    let answer = etcd.call(|client| txn(client, taking.clone())).await?;
    if answer.succeeded() {
        return Ok(Attempt::Ours(lease));
    }
    let found = gets::<1>(&answer).ok_or_else(|| CallError::Unknown("etcd's answer is not understood".to_owned()))?;
    let attempt = found[0].kvs().first().map(|pair| judge(pair, me));
    if !matches!(attempt, Some(Attempt::Ours(ours)) if ours == lease) {
        revoke(etcd, lease).await.ok();
    }
    attempt.ok_or_else(|| CallError::NotSent("the name was given back just now".to_owned()))
}

fn judge(pair: &etcd_client::KeyValue, me: &Entry) -> Attempt {
    let by: Option<Entry> = serde_json::from_slice(pair.value()).ok();
    match by {
        // The answer to an earlier attempt was lost.
        Some(by) if by.instance == me.instance => Attempt::Ours(pair.lease()),
        by => Attempt::Taken { by, lease: pair.lease() },
    }
}

pub(super) async fn revoke(etcd: &Etcd, lease: LeaseId) -> Result<(), CallError> {
    match etcd.call(|mut client| async move { client.lease_revoke(lease).await }).await {
        Ok(_) | Err(CallError::LeaseGone) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes the name when the process starts. One that is held by a process that is provably gone is taken over; else its
/// lease is waited for, since a process that was killed gives nothing back, unless it is renewed all the while.
pub(super) async fn take(
    etcd: &Etcd,
    keys: &Keys,
    me: &Entry,
    ttl_s: i64,
    patience: &mut Patience,
) -> Result<LeaseId, EtcdError> {
    let mut watched = Watched::default();
    loop {
        let root = keys.root();
        let tried = patience
            .until(|| async { attempt(etcd, keys, me, ttl_s).await.map_err(|error| Trouble::from((error, root))) })
            .await?;
        let (by, lease) = match tried {
            Attempt::Ours(lease) => return Ok(lease),
            Attempt::Taken { by, lease } => (by, lease),
        };
        let address = by.as_ref().map_or_else(|| "an unknown address".to_owned(), |by| by.identity.http.clone());
        if let Some(by) = &by
            && probe::is_gone(by, me).await
        {
            tracing::info!(name = me.identity.name, address, "the process that had this name is gone; taking it over");
            patience
                .until(|| async { revoke(etcd, lease).await.map_err(|error| Trouble::from((error, root))) })
                .await?;
            continue;
        }
        let name = &me.identity.name;
        if watched.lease != Some(lease) {
            tracing::info!(name, address, "this name is taken; waiting whether it is given back");
            watched = Watched { lease: Some(lease), ..Watched::default() };
        }
        if watched.look(etcd, lease).await {
            return Err(EtcdError::NameTaken { name: name.clone(), address });
        }
        patience.waits_for(format!(
            "the coordinator at {address} has this one's name, {name}: each needs a name of its own"
        ));
        patience.pause(LOOK_EVERY).await?;
    }
}

/// The lease of another process, as far as it was watched.
#[derive(Debug, Default)]
struct Watched {
    lease: Option<LeaseId>,
    left_s: Option<i64>,
    renewals: u32,
}

impl Watched {
    /// Looks once more. Answers whether somebody keeps it alive; or whether there is none, so that it will never lapse.
    async fn look(&mut self, etcd: &Etcd, lease: LeaseId) -> bool {
        let looking = etcd.call(|mut client| async move { client.lease_time_to_live(lease, None).await });
        if let Ok(answer) = looking.await {
            self.saw(answer.ttl());
        }
        lease == 0 || self.renewals >= RENEWALS
    }

    fn saw(&mut self, left_s: i64) {
        self.renewals += u32::from(self.left_s.is_some_and(|before| left_s > before));
        self.left_s = Some(left_s);
    }
}

/// A name that is held.
pub(super) struct Name {
    pub(super) etcd: Etcd,
    pub(super) keys: Keys,
    pub(super) me: Entry,
    pub(super) ttl_s: i64,
    pub(super) lease: LeaseId,
    /// Cancelled when the process gives it back.
    pub(super) resigned: CancellationToken,
}

/// Keeps the name until it is given back. When etcd was away for longer than the lease, it is taken again.
///
/// # Errors
/// Another process has it by then: in words, why this one must stop.
pub(super) async fn keep(mut name: Name) -> Result<(), String> {
    let every = Duration::from_secs(name.ttl_s.unsigned_abs()) / 3;
    loop {
        if name.resigned.run_until_cancelled(tokio::time::sleep(every)).await.is_none() {
            let _ = revoke(&name.etcd, name.lease).await;
            return Ok(());
        }
        // Anything but "it is gone" is tried again in time.
        if keep_alive(&name.etcd, name.lease).await != Ok(false) {
            continue;
        }
        match attempt(&name.etcd, &name.keys, &name.me, name.ttl_s).await {
            Ok(Attempt::Ours(lease)) => {
                tracing::info!(
                    name = name.me.identity.name,
                    "the name of this coordinator had lapsed and is taken again"
                );
                name.lease = lease;
            }
            Ok(Attempt::Taken { by, .. }) => {
                let address = by.map_or_else(|| "an unknown address".to_owned(), |by| by.identity.http);
                let name = name.me.identity.name;
                return Err(EtcdError::NameTaken { name, address }.to_string());
            }
            Err(error) => tracing::debug!(%error, "the name of this coordinator is not taken again yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_only_runs_out_or_is_renewed_by_a_new_leader_of_etcd_proves_nobody_alive() {
        let mut watched = Watched::default();
        for left_s in [8, 7, 7, 6, 9, 8, 5, 2, 0, -1] {
            watched.saw(left_s);
        }
        assert!(watched.renewals < RENEWALS);
        for left_s in [9, 8, 9, 8] {
            watched.saw(left_s);
        }
        assert_eq!(watched.renewals, RENEWALS);
    }
}
