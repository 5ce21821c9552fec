//! Which engine a site's workers use, and what its images are.

use anyhow::Context;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The image with busybox in it; both engines have it.
pub const BUSYBOX_IMAGE: &str = "muster/busybox:1";

/// What runs the ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Containers of the engine behind this socket.
    Docker {
        /// Its path.
        socket: String,
    },
    /// Processes in namespaces of their own.
    Process,
    /// Nothing: ends as scripted.
    Fake,
}

impl Engine {
    /// The name in the worker's configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Docker { .. } => "docker",
            Self::Process => "process",
            Self::Fake => "fake",
        }
    }

    /// The socket of a container engine.
    #[must_use]
    pub fn socket(&self) -> Option<&String> {
        match self {
            Self::Docker { socket } => Some(socket),
            Self::Process | Self::Fake => None,
        }
    }

    /// The engines that the end-to-end tests run on. Docker is named by `MUSTER_TEST_DOCKER`, which the test command sets
    /// after it has started an engine; without it the tests on Docker are named as not run.
    ///
    /// # Panics
    /// Docker is missing, and `REQUIRE_ALL=1` forbids that.
    #[must_use]
    pub fn docker_for_tests(test: &str) -> Option<Self> {
        if let Ok(socket) = std::env::var("MUSTER_TEST_DOCKER") {
            return Some(Self::Docker { socket });
        }
        let required = std::env::var("REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!required, "{test}: MUSTER_TEST_DOCKER is not set; `make test` starts an engine and sets it");
        println!("NOT RUN: {test} on docker: no engine (MUSTER_TEST_DOCKER is not set)");
        None
    }
}

/// Makes the process engine's images: a folder per image, whose `bin` comes first on the path.
///
/// # Errors
/// The folder cannot be written, or there is no static busybox.
pub fn images_folder(root: &Path) -> anyhow::Result<PathBuf> {
    let images = root.join("images");
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(Path::new).find(|path| path.exists());
    let busybox = busybox.context("there is no busybox; `sh tests/setup/packages.sh` installs it")?;
    let applets = std::process::Command::new(busybox).arg("--list").output()?.stdout;
    let applets = String::from_utf8(applets)?;
    for image in ["muster/busybox/1", "acme/batch/1.0.0"] {
        let bin = images.join(image).join("bin");
        std::fs::create_dir_all(&bin)?;
        for applet in applets.lines() {
            symlink(busybox, bin.join(applet))?;
        }
    }
    let program = images.join("acme/batch/1.0.0/bin/acme-batch");
    std::fs::write(&program, include_str!("../../setup/images/acme-batch"))?;
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755))?;
    Ok(images)
}
