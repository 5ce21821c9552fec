//! Which isolation this machine permits, found out by doing it.

use super::super::record::Isolation;
use super::sandbox::{self, Sandbox};
use super::sys::{self, Forked};
use muster_domain::peers::PeerFiles;
use muster_domain::resources::Resources;
use rustix::process::WaitOptions;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::exit;

/// The answer, as JSON on the standard output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct Probed {
    pub(in super::super) isolation: Isolation,
    /// Why the stronger ones cannot be had, in words for the operator.
    pub(in super::super) warnings: Vec<String>,
}

/// Tries, strongest first. `folder` is ours to write in.
pub(super) fn probe(folder: &Path) -> io::Result<Probed> {
    let work = folder.join("work");
    fs::create_dir_all(&work)?;
    let mut warnings = Vec::new();
    for isolation in [Isolation::Namespaces, Isolation::UserNamespaces] {
        let sandbox = Sandbox {
            isolation,
            host: "probe",
            job_dir: &work,
            peer_files: &PeerFiles::default(),
            image_dir: None,
            hidden: &[],
            resources: &Resources { cores: 0, memory_bytes: 0, gpus: 0 },
        };
        match attempt(&sandbox) {
            Ok(()) => return Ok(Probed { isolation, warnings }),
            Err(why) => warnings.push(match isolation {
                Isolation::Namespaces if !rustix::process::geteuid().is_root() => continue,
                Isolation::Namespaces => format!("ranks cannot have namespaces made by root: {why}"),
                _ => format!("ranks cannot have user namespaces: {why}"),
            }),
        }
    }
    warnings.push(
        "ranks run as plain children: they see the whole machine, /work and /etc/ucloud do not exist \
         (UCLOUD_ETC names the folder of the peer files), and host names of ranks do not resolve"
            .to_owned(),
    );
    Ok(Probed { isolation: Isolation::Plain, warnings })
}

fn attempt(sandbox: &Sandbox<'_>) -> Result<(), String> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| e.to_string())?;
    let outside = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let forked = sys::fork_into(sandbox::namespaces(sandbox.isolation)).map_err(|error| error.to_string())?;
    let Forked::Parent(child) = forked else {
        let mapped = match sandbox.isolation {
            Isolation::UserNamespaces => {
                sandbox::map_user(outside, outside).map_err(|e| ("map the user".to_owned(), e))
            }
            _ => Ok(()),
        };
        if let Err((step, error)) = mapped.and_then(|()| sandbox.enter()) {
            // The exit code says the same without the words.
            let _ = File::from(writer).write_all(format!("could not {step}: {error}").as_bytes());
            exit(1);
        }
        exit(0)
    };
    drop(writer);
    let mut why = String::new();
    let read = File::from(reader).take(4096).read_to_string(&mut why);
    let ended = rustix::process::waitpid(Some(child), WaitOptions::empty()).map_err(|error| error.to_string())?;
    let passed = ended.is_some_and(|(_, status)| status.exit_status() == Some(0));
    match read {
        _ if passed => Ok(()),
        Ok(_) if !why.is_empty() => Err(why),
        _ => Err("the attempt ended without an answer".to_owned()),
    }
}
