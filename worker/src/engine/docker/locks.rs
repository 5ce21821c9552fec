//! Locks by name, which exist as long as somebody holds or awaits them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

#[derive(Default)]
pub(super) struct Locks {
    by_name: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Locks {
    /// Waits for the lock of this name.
    pub(super) async fn hold(&self, name: String) -> OwnedMutexGuard<()> {
        let lock = {
            let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
            // Only those that nobody uses have no other owner than the map.
            by_name.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(by_name.entry(name).or_default())
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_name_is_held_once_and_others_are_free() {
        let locks = Locks::default();
        let held = locks.hold("a".into()).await;
        assert!(locks.hold("a".into()).now_or_never().is_none());
        let other = locks.hold("b".into()).now_or_never().expect("another name is free");
        drop((held, other));
        locks.hold("a".into()).now_or_never().expect("it was let go");
        assert_eq!(locks.by_name.lock().unwrap().len(), 1, "unused locks are forgotten");
    }
}
