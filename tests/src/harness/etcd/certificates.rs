//! Certificates of a cluster under test, made by openssl: an authority, one for the members, one for clients.

use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Written anew for each cluster, so that the machine's own `openssl.cnf` has no say.
const CONFIGURATION: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
CN = Muster
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
subjectAltName = IP:127.0.0.1,DNS:localhost
";

/// Paths of PEM files.
#[derive(Debug)]
pub(super) struct Certificates {
    pub(super) authority: PathBuf,
    pub(super) server: PathBuf,
    pub(super) server_key: PathBuf,
    pub(super) client: PathBuf,
    pub(super) client_key: PathBuf,
}

impl Certificates {
    /// Makes all of them in `folder`. Good for two days.
    pub(super) fn make(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("openssl.cnf"), CONFIGURATION)?;
        openssl(folder, &["req", "-x509", "-days", "2", "-extensions", "authority"], "authority", "-out", "pem")?;
        // etcd's own gateway shows the server's certificate as a client's: both kinds are good for both.
        for name in ["server", "client"] {
            openssl(folder, &["req", "-new"], name, "-out", "request")?;
            sign(folder, name)?;
        }
        let file = |name: &str| folder.join(name);
        Ok(Self {
            authority: file("authority.pem"),
            server: file("server.pem"),
            server_key: file("server.key"),
            client: file("client.pem"),
            client_key: file("client.key"),
        })
    }
}

/// A new key and what is made of it.
fn openssl(folder: &Path, what: &[&str], name: &str, out: &str, ending: &str) -> anyhow::Result<()> {
    let mut arguments: Vec<String> = what.iter().map(ToString::to_string).collect();
    let key = ["-config", "openssl.cnf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    arguments.extend(key.map(str::to_owned));
    arguments.extend(["-subj".to_owned(), format!("/CN=muster {name}")]);
    arguments.extend(["-keyout".to_owned(), format!("{name}.key"), out.to_owned(), format!("{name}.{ending}")]);
    run(folder, &arguments)
}

fn sign(folder: &Path, name: &str) -> anyhow::Result<()> {
    let text = format!(
        "x509 -req -days 2 -in {name}.request -CA authority.pem -CAkey authority.key -CAcreateserial \
         -extfile openssl.cnf -extensions leaf -out {name}.pem"
    );
    run(folder, &text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
}

fn run(folder: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let output = Command::new("openssl")
        .current_dir(folder)
        .args(arguments)
        .output()
        .context("openssl does not run: `sh tests/setup/etcd.sh` installs it")?;
    ensure!(output.status.success(), "openssl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(())
}
