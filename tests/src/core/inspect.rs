//! What tests see of a stand-in and set in it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::keys::ProviderKeys;
use super::{Call, Charge, Core, CoreJob, CreateStatistics, Faults, RepeatedCharge, Wallet};

impl Core {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Base URL for the provider's configuration.
    pub fn url(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// The provider's base URL, when it was not known at the start or has moved.
    pub fn set_provider_url(&self, url: &str) {
        self.shared.set_provider_url(url);
    }

    /// Public key and refresh token that the provider is configured with.
    pub fn keys(&self) -> Arc<ProviderKeys> {
        self.shared.keys()
    }

    /// A job as it is now; `None` if it never existed or was deleted because the provider did not accept it.
    pub fn job(&self, id: &str) -> Option<CoreJob> {
        self.shared.state().record(id).map(|record| record.view.clone())
    }

    /// All jobs, oldest first.
    pub fn jobs(&self) -> Vec<CoreJob> {
        self.shared.state().jobs.values().map(|record| record.view.clone()).collect()
    }

    /// Ids of jobs that were deleted because the provider did not accept them. If it did after all, they are its orphans (F3).
    pub fn deleted_jobs(&self) -> BTreeSet<String> {
        self.shared.state().deleted.clone()
    }

    /// Forgets a job, as an operator of Core might: the provider has an orphan from here on.
    pub fn forget_job(&self, id: &str) {
        self.shared.state().delete(&[id.into()]);
        self.shared.changed();
    }

    /// Waits until `wanted` holds of a job; looks again at every change of it. The error tells how far the job came.
    pub async fn wait_for(
        &self,
        id: &str,
        wanted: impl Fn(&CoreJob) -> bool,
        timeout: Duration,
    ) -> anyhow::Result<CoreJob> {
        let mut revision = {
            let state = self.shared.state();
            let record = state.record(id).ok_or_else(|| anyhow::anyhow!("job {id} does not exist"))?;
            record.revision.subscribe()
        };
        let waiting = async {
            loop {
                revision.borrow_and_update();
                let job =
                    self.job(id).ok_or_else(|| anyhow::anyhow!("job {id} was deleted while it was waited for"))?;
                if wanted(&job) {
                    return Ok(job);
                }
                // An error means the job was deleted, which the next look finds.
                let _ = revision.changed().await;
            }
        };
        match tokio::time::timeout(timeout, waiting).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let job = self.job(id);
                let told: Vec<_> =
                    job.iter().flat_map(|job| &job.history).filter_map(|entry| entry.status.as_deref()).collect();
                let state = job.as_ref().map(|job| job.state);
                anyhow::bail!(
                    "job {id} is {state:?} after {timeout:?}, and not as it was waited for; it was told {told:?}"
                )
            }
        }
    }

    /// Waits until `wanted` holds of the whole; looks again at every change of any job, charge or wallet.
    pub async fn wait_until(&self, wanted: impl Fn(&Self) -> bool, timeout: Duration) -> anyhow::Result<()> {
        let mut revision = self.shared.revision.subscribe();
        let waiting = async {
            loop {
                revision.borrow_and_update();
                if wanted(self) || revision.changed().await.is_err() {
                    return;
                }
            }
        };
        let done = tokio::time::timeout(timeout, waiting).await;
        done.map_err(|_| anyhow::anyhow!("the core did not become as it was waited for within {timeout:?}"))
    }

    /// How many jobs there are, and how many of them are final. Cheap, for waiting on thousands.
    pub fn count_jobs(&self) -> (usize, usize) {
        let state = self.shared.state();
        (state.jobs.len(), state.jobs.values().filter(|record| record.view.state.is_final()).count())
    }

    /// Balance of a wallet, credits; `owner` is a project id or a user's name. `None`: no allocation at all.
    pub fn wallet(&self, owner: &str, category: &str) -> Option<i64> {
        self.shared.state().ledger.balance(owner, category)
    }

    /// Sets a wallet, credits; `None`: no allocation at all, so that charges are refused with 402.
    pub fn set_wallet(&self, owner: &str, category: &str, balance: Option<i64>) {
        self.shared.state().ledger.set(owner, category, balance);
        self.shared.changed();
    }

    /// Wallets that were set or charged.
    pub fn wallets(&self) -> Vec<Wallet> {
        self.shared.state().ledger.wallets()
    }

    /// Every charge that was booked, in order.
    pub fn charges(&self) -> Vec<Charge> {
        self.shared.state().ledger.charges.clone()
    }

    /// The charges of one job, in order.
    pub fn charges_of(&self, id: &str) -> Vec<Charge> {
        self.shared.state().ledger.charges.iter().filter(|charge| charge.job == id).cloned().collect()
    }

    /// Charges that were sent again under a booked id, in order; the newest 100,000.
    pub fn repeated_charges(&self) -> Vec<RepeatedCharge> {
        self.shared.state().ledger.repeated.iter().cloned().collect()
    }

    /// The newest 10,000 calls of both directions, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.iter().cloned().collect()
    }

    /// How `create` calls were answered, and how fast.
    pub fn creates(&self) -> CreateStatistics {
        self.shared.state().creates.clone()
    }

    /// Forgets the counts of [`Core::creates`], for a measurement after a warm-up.
    pub fn reset_creates(&self) {
        self.shared.state().creates = CreateStatistics::default();
    }

    /// Users whose connection the provider has approved.
    pub fn connected_users(&self) -> BTreeSet<String> {
        self.shared.state().connected.clone()
    }

    /// Replaces the faults that are on; the default switches all off.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.set_faults(faults);
    }

    /// The faults that are on; the counters show what is left of them.
    pub fn faults(&self) -> Faults {
        self.shared.faults.borrow().clone()
    }

    /// Refuses every access token handed out so far with 401.
    pub fn revoke_tokens(&self) {
        self.shared.state().revoke_tokens();
    }
}
