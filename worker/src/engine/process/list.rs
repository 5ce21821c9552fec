//! What is on this node, read from the folders.

use super::end::Standing;
use super::record::{Description, RankFolder};
use super::{Inner, blocking, node_fault};
use crate::engine::{EngineError, Found};
use muster_domain::agent::Observation;
use muster_domain::time::Moment;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

impl Inner {
    pub(super) async fn list(self: Arc<Self>) -> Result<Vec<Found>, EngineError> {
        let inner = Arc::clone(&self);
        let unreadable = |error| node_fault("the engine's folder cannot be read", error);
        let folders = blocking(move || inner.rank_folders().map_err(unreadable)).await?;
        for folder in &folders {
            self.settle(folder).await?;
        }
        blocking(move || folders.iter().filter_map(|folder| self.found(folder).transpose()).collect()).await
    }

    fn found(&self, folder: &RankFolder) -> Result<Option<Found>, EngineError> {
        // Ranks of another installation are left alone, whatever became of them.
        let ours = |description: &Description| description.cluster == self.settings.cluster;
        let standing = match folder.description().and_then(|found| match found {
            Some(description) if ours(&description) => self.standing(folder),
            _ => Ok(Standing::Missing),
        }) {
            Ok(standing) => standing,
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                // Written by another version or damaged. One bad folder must not hide the others.
                tracing::error!(folder = %folder.path.display(), %error, "a rank's folder is unreadable and is left alone");
                return Ok(None);
            }
            Err(error) => return Err(node_fault("a rank's folder cannot be read", error)),
        };
        let (description, observation) = match standing {
            Standing::Missing => return Ok(None),
            Standing::Prepared(description) => {
                let address = description.address.clone();
                (description, Observation::Prepared { address })
            }
            Standing::Running(description, running, _) => {
                (description, Observation::Started { started_at: Moment(running.started_at_ms) })
            }
            Standing::Ended(description, ended) => {
                (description, Observation::Ended { end: ended.end, age_ms: ended.age_ms })
            }
        };
        let assignment = description.assignment;
        Ok(Some(Found { key: assignment.key, term: assignment.term, observation }))
    }

    pub(super) fn rank_folders(&self) -> io::Result<Vec<RankFolder>> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&self.ranks_dir)? {
            let entry = entry?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                paths.push(entry.path());
            }
        }
        paths.sort();
        Ok(paths.into_iter().map(|path| RankFolder { path }).collect())
    }

    /// Addresses of ranks that are here must not be given again.
    pub(super) fn adopt_addresses(&self) -> io::Result<()> {
        for folder in self.rank_folders()? {
            match folder.description() {
                Ok(Some(description)) => self.addresses.adopt(&description.assignment.key, &description.address),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(folder = %folder.path.display(), %error, "a rank's folder is unreadable and is left alone");
                }
            }
        }
        Ok(())
    }
}
