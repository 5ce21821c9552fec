//! Making a rank's folder.

use super::record::{Description, RankFolder, sync_folder};
use super::{Inner, blocking, image, node_fault};
use crate::engine::{EngineError, EngineInfo};
use muster_domain::rank::Assignment;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

impl Inner {
    pub(super) fn describe(&self) -> Result<EngineInfo, EngineError> {
        // A state folder that does not answer is an engine that does not.
        fs::metadata(&self.ranks_dir).map_err(|error| node_fault("the engine's folder cannot be read", error))?;
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let network_zone = match &self.settings.addresses {
            super::Addresses::Loopback { .. } => format!("loopback-{}", self.boot_id),
            super::Addresses::Node { .. } => "routed".to_owned(),
        };
        let isolation = match self.isolation {
            super::Isolation::Namespaces => "namespaces",
            super::Isolation::UserNamespaces => "user namespaces",
            super::Isolation::Plain => "no isolation",
        };
        Ok(EngineInfo {
            name: "process".to_owned(),
            version: format!("Linux {kernel}, {isolation}"),
            network_zone,
            warnings: self.warnings.clone(),
        })
    }

    pub(super) async fn prepare(self: Arc<Self>, assignment: Assignment) -> Result<String, EngineError> {
        let _lock = self.lock(&assignment.key).await;
        let inner = Arc::clone(&self);
        blocking(move || inner.prepare_blocking(assignment)).await
    }

    fn prepare_blocking(&self, assignment: Assignment) -> Result<String, EngineError> {
        let key = assignment.key.clone();
        let folder = self.folder(&key);
        let found = folder.description().map_err(|error| node_fault("the rank's folder cannot be read", error))?;
        if let Some(description) = found {
            return Ok(description.address);
        }
        let image_dir = match &self.settings.images_dir {
            Some(images) => Some(image::folder_of(images, &assignment.container.image)?),
            None => None,
        };
        let job_dir = self.settings.work_root.join(key.job.as_str());
        make_job_folder(&job_dir, self.settings.user)
            .map_err(|error| node_fault("the job's folder cannot be made", error))?;
        let address = self.addresses.give(&key)?;
        let description = Description {
            cluster: self.settings.cluster.clone(),
            address: address.clone(),
            boot_id: self.boot_id.clone(),
            isolation: self.isolation,
            cgroups: self.cgroups.clone(),
            image_dir,
            job_dir,
            hidden: vec![self.settings.state_dir.clone(), self.settings.work_root.clone()],
            user: self.settings.user.filter(|_| !assignment.container.as_root),
            log_limit_bytes: self.settings.log_limit_bytes,
            pids_limit: self.settings.pids_limit,
            assignment,
        };
        self.write_folder(&folder, &description).map_err(|error| {
            self.addresses.release(&key);
            node_fault("the rank's folder cannot be made", error)
        })?;
        Ok(address)
    }

    /// All or nothing, on disk when it returns.
    fn write_folder(&self, folder: &RankFolder, description: &Description) -> io::Result<()> {
        let draft = RankFolder { path: self.ranks_dir.join(format!(".new-{}", description.assignment.key)) };
        match fs::remove_dir_all(&draft.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::DirBuilder::new().mode(0o711).create(&draft.path)?;
        draft.write_description(description)?;
        sync_folder(&draft.path)?;
        fs::rename(&draft.path, &folder.path)?;
        sync_folder(&self.ranks_dir)
    }
}

/// Belongs to the ranks' user and nobody else may look in. One that is there already is left as it is.
fn make_job_folder(path: &Path, user: Option<(u32, u32)>) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => match user {
            Some((user, group)) => std::os::unix::fs::lchown(path, Some(user), Some(group)),
            None => Ok(()),
        },
        // A link could lead anywhere.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(path)?.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}
