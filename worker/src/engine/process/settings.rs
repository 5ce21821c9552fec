//! What an operator may tune about the process engine.

use muster_domain::id::ClusterName;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What the process engine needs to know.
#[derive(Clone, Debug)]
pub struct ProcessSettings {
    /// Where the engine keeps its folders: one per rank under `ranks/`, logs of removed ranks under `logs/`.
    pub state_dir: PathBuf,
    /// Where job folders are: `<work_root>/<job id>` is `/work` of every rank of the job.
    pub work_root: PathBuf,
    /// The installation whose ranks these are. Ranks of another one are left alone.
    pub cluster: ClusterName,
    /// How ranks get the address under which the others reach them.
    pub addresses: Addresses,
    /// Where images are: `acme/batch:1.0.0` is the folder `acme/batch/1.0.0` here, and its `bin` comes first on `PATH`.
    /// Without it every image is accepted, and the host's programs run.
    pub images_dir: Option<PathBuf>,
    /// User and group of every rank that may not be root; without it ranks run as the agent's own user.
    pub user: Option<(u32, u32)>,
    /// Whether that user is nobody (65534:65534) where none is given, the agent is root and namespaces let ranks into their own
    /// folders only. The reference provider runs no job as root that does not ask for it, either (`protocol.md` 11.2).
    pub nobody: bool,
    /// The program that supervises a rank: this worker's own binary, run as `<shim> rank-shim <folder>`.
    pub shim: PathBuf,
    /// Most bytes kept of each of a rank's two streams. More is dropped, with a marker in the log.
    pub log_limit_bytes: u64,
    /// How long logs are kept after a rank is removed.
    pub log_retention: Duration,
    /// Most processes and threads of one rank.
    pub pids_limit: u32,
}

impl ProcessSettings {
    /// Settings with the defaults: 64 MiB per stream, logs kept for a day, 4096 processes, loopback addresses out of
    /// 127.64.1.0/24, no folder of images, the agent's own user.
    #[must_use]
    pub fn new(state_dir: PathBuf, work_root: PathBuf, cluster: ClusterName, shim: PathBuf) -> Self {
        Self {
            state_dir,
            work_root,
            cluster,
            addresses: Addresses::Loopback { base: Ipv4Prefix { address: Ipv4Addr::new(127, 64, 1, 0), length: 24 } },
            images_dir: None,
            user: None,
            nobody: false,
            shim,
            log_limit_bytes: 64 << 20,
            log_retention: Duration::from_secs(24 * 60 * 60),
            pids_limit: 4096,
        }
    }
}

/// How ranks get their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Each rank gets an address of its own out of `base`, so that ports of ranks on one node do not collide. Only
    /// ranks on this machine reach each other.
    Loopback {
        /// A prefix inside 127.0.0.0/8. Workers that share a machine need different ones.
        base: Ipv4Prefix,
    },
    /// Every rank has the node's own address; ranks on one node share its ports.
    Node {
        /// As the other nodes reach this one.
        address: String,
    },
}

/// A range of addresses, written `127.64.1.0/24`; at most 30 bits long, so that it has an address to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Prefix {
    /// Any address of the range.
    pub address: Ipv4Addr,
    /// Number of leading bits that all addresses of the range share.
    pub length: u8,
}

/// Why a text is not an address range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a usable range of addresses: expected one inside 127.0.0.0/8, such as 127.64.1.0/24, with 8 to 30 bits"
)]
pub struct BadPrefix {
    /// The text that was refused.
    pub text: String,
}

impl Ipv4Prefix {
    /// Whether ranks can have addresses out of it: inside 127.0.0.0/8, and with at least two to give.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.address.is_loopback() && (8..=30).contains(&self.length)
    }

    /// The range's first and last address that ranks may have; the network's own and the broadcast one are left out.
    pub(super) fn bounds(&self) -> (u32, u32) {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0);
        let first = u32::from(self.address) & mask;
        // 127.0.0.1 is everybody's localhost, and no rank's own.
        let lowest = if first == u32::from(Ipv4Addr::new(127, 0, 0, 0)) { first + 2 } else { first + 1 };
        (lowest, (first | !mask) - 1)
    }
}

impl FromStr for Ipv4Prefix {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let bad = || BadPrefix { text: text.chars().take(80).collect() };
        let (address, length) = text.split_once('/').ok_or_else(bad)?;
        let prefix = Self { address: address.parse().map_err(|_| bad())?, length: length.parse().map_err(|_| bad())? };
        if prefix.is_usable() { Ok(prefix) } else { Err(bad()) }
    }
}

impl fmt::Display for Ipv4Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}
