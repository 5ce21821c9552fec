//! The files that the configuration names.

use super::StartError;
use crate::auth::Authenticator;
use crate::config::Config;
use muster_runtime::secret::Secret;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The largest file with a public key, in bytes.
const MOST_KEY_BYTES: u64 = 64 << 10;

/// Files that the configuration names, read.
pub(super) struct Files {
    pub(super) join_secret: Option<Secret>,
    pub(super) operator_token: Option<Secret>,
    pub(super) keys: Vec<String>,
}

impl Files {
    pub(super) fn read(config: &Config) -> Result<Self, StartError> {
        let secret = |key: &'static str, path: &Option<PathBuf>| match path {
            Some(path) => Secret::from_file(path).map(Some).map_err(|source| StartError::Secret { key, source }),
            None => Ok(None),
        };
        // Read again at each refresh; looked at here so that a mistake shows at once.
        secret("core.refresh_token_file", &Some(config.core.refresh_token_file.clone()))?;
        Ok(Self {
            join_secret: secret("fleet.token_file", &config.fleet.token_file)?,
            operator_token: secret("operator.token_file", &config.operator.token_file)?,
            keys: config.core.public_key_files.iter().map(read_key).collect::<Result<_, _>>()?,
        })
    }
}

fn read_key(path: &PathBuf) -> Result<String, StartError> {
    use std::io::Read;
    let bad = |why: String| StartError::KeyFile { path: path.clone(), why };
    let file = std::fs::File::open(path).map_err(|error| bad(error.to_string()))?;
    let mut text = String::new();
    file.take(MOST_KEY_BYTES).read_to_string(&mut text).map_err(|error| bad(error.to_string()))?;
    Ok(text)
}

/// On SIGHUP reads Core's public keys again: a renewal at Core replaces the key at once, and needs no restart here.
pub(super) async fn reload_keys(
    files: Vec<PathBuf>,
    auth: Arc<Authenticator>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    while let Some(Some(())) = stop.run_until_cancelled(hangups.recv()).await {
        let keys: Result<Vec<String>, StartError> = files.iter().map(read_key).collect();
        match keys.and_then(|keys| Ok(auth.reload(&keys)?)) {
            Ok(()) => tracing::info!(files = files.len(), "public keys of core were read again"),
            Err(error) => tracing::error!(%error, "the keys in use stay; mend the file and send SIGHUP again"),
        }
    }
    Ok(())
}
