//! The peer files and the host table of one rank.

use crate::engine::{EngineError, Fault};
use muster_domain::peers::PeerFiles;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Refuses what could leave the folder or add a line to the table. They come over the wire.
pub(super) fn check(files: &PeerFiles) -> Result<(), EngineError> {
    let refuse = |message| Err(EngineError { fault: Fault::Node, message });
    if let Some(name) =
        files.files.keys().find(|name| name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']))
    {
        return refuse(format!("the peer files have one named {name:?}, expected a plain file name"));
    }
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if let Some((address, host)) = files.hosts.iter().find(|(address, host)| !plain(address) || !plain(host)) {
        return refuse(format!("the host table has {address:?} for {host:?}, expected an address and a host name"));
    }
    Ok(())
}

/// Writes `ucloud/` and `hosts` into a folder.
pub(super) fn write_into(folder: &Path, files: &PeerFiles) -> io::Result<()> {
    let ucloud = folder.join("ucloud");
    match fs::DirBuilder::new().mode(0o755).create(&ucloud) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for (name, content) in &files.files {
        write(&ucloud.join(name), content)?;
    }
    write(&folder.join("hosts"), &host_table(files))
}

fn write(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    file.write_all(content.as_bytes())
}

fn host_table(files: &PeerFiles) -> String {
    let own = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    files.hosts.iter().fold(own, |table, (address, host)| table + &format!("{address}\t{host}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_refused() {
        let files = |name: &str| PeerFiles { files: [(name.to_owned(), String::new())].into(), hosts: Vec::new() };
        for name in ["", ".", "..", "../x", "a/b", ".hidden"] {
            assert!(check(&files(name)).is_err(), "{name}");
        }
        check(&files("node-0.txt")).unwrap();
        let hosts =
            |host: &str| PeerFiles { hosts: vec![("127.0.0.2".to_owned(), host.to_owned())], ..PeerFiles::default() };
        for host in ["", "a b", "a\n1.1.1.1 core", "a#"] {
            assert!(check(&hosts(host)).is_err(), "{host}");
        }
        check(&hosts("j-7-rank-0")).unwrap();
        assert!(host_table(&hosts("j-7-rank-0")).ends_with("\n127.0.0.2\tj-7-rank-0\n"));
    }
}
