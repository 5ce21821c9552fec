//! The files by which ranks find each other (design section 3.4, protocol 11.3).

use crate::id::{JobId, Rank};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where one rank can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankAddress {
    /// Its host name; what the peer files name.
    pub host: String,
    /// Its address; what the host table resolves the name to.
    pub address: String,
}

/// Everything a worker writes for one rank before it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFiles {
    /// File name under `/etc/ucloud` to content.
    pub files: BTreeMap<String, String>,
    /// Host table: (address, host name), one per rank, in order of rank.
    pub hosts: Vec<(String, String)>,
}

/// The host name of a rank: an RFC 1123 label made by us from the job's id and a number, never from a user's text.
#[must_use]
pub fn host_name(job: &JobId, rank: Rank) -> String {
    format!("j-{}-rank-{rank}", job.as_str().to_ascii_lowercase())
}

/// The full set of files for one rank: `rank.txt number_of_nodes.txt nodes.txt node-$r.txt cores.txt job_id.txt`.
///
/// Every file ends in a newline; all but `nodes.txt` hold one line. `cores.txt` is the cores of one rank
/// (`protocol.md` 16.14).
#[must_use]
pub fn peer_files(job: &JobId, rank: Rank, cores: u32, ranks: &[RankAddress]) -> PeerFiles {
    let mut files = BTreeMap::from([
        ("rank.txt".to_owned(), format!("{rank}\n")),
        ("number_of_nodes.txt".to_owned(), format!("{}\n", ranks.len())),
        ("nodes.txt".to_owned(), ranks.iter().map(|rank| format!("{}\n", rank.host)).collect()),
        ("cores.txt".to_owned(), format!("{cores}\n")),
        ("job_id.txt".to_owned(), format!("{job}\n")),
    ]);
    for (number, peer) in ranks.iter().enumerate() {
        files.insert(format!("node-{number}.txt"), format!("{}\n", peer.host));
    }
    let hosts = ranks.iter().map(|rank| (rank.address.clone(), rank.host.clone())).collect();
    PeerFiles { files, hosts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gang(size: u32) -> (JobId, Vec<RankAddress>) {
        let job = JobId::new("54112").unwrap();
        let ranks = (0..size)
            .map(|rank| RankAddress {
                host: host_name(&job, rank),
                address: format!("10.0.{}.{}", rank / 250, rank % 250),
            })
            .collect();
        (job, ranks)
    }

    #[test]
    fn the_files_of_rank_1_of_3() {
        let (job, ranks) = gang(3);
        let files = peer_files(&job, 1, 4, &ranks).files;
        let text: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(
            text,
            [
                ("cores.txt", "4\n"),
                ("job_id.txt", "54112\n"),
                ("node-0.txt", "j-54112-rank-0\n"),
                ("node-1.txt", "j-54112-rank-1\n"),
                ("node-2.txt", "j-54112-rank-2\n"),
                ("nodes.txt", "j-54112-rank-0\nj-54112-rank-1\nj-54112-rank-2\n"),
                ("number_of_nodes.txt", "3\n"),
                ("rank.txt", "1\n"),
            ]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// For any number of ranks: every rank gets the full set, the sets differ only in `rank.txt`, and every name in
        /// them resolves through the host table.
        #[test]
        fn peer_files_are_complete_and_consistent(size in 1..300_u32, pick in any::<prop::sample::Index>(), cores in 1..256_u32) {
            let (job, ranks) = gang(size);
            let rank = u32::try_from(pick.index(size as usize)).unwrap();
            let mine = peer_files(&job, rank, cores, &ranks);
            let mut first = peer_files(&job, 0, cores, &ranks);
            prop_assert_eq!(mine.files.len(), size as usize + 5);
            prop_assert_eq!(&mine.files["rank.txt"], &format!("{rank}\n"));
            prop_assert_eq!(&mine.files["number_of_nodes.txt"], &format!("{size}\n"));
            for number in 0..size {
                let name = mine.files[&format!("node-{number}.txt")].trim_end();
                prop_assert_eq!(mine.files["nodes.txt"].lines().nth(number as usize), Some(name));
                prop_assert!(mine.hosts.iter().filter(|(_, host)| host == name).count() == 1);
                prop_assert!(name.len() <= 63 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            }
            prop_assert!(mine.files.values().all(|text| text.ends_with('\n')));
            first.files.insert("rank.txt".into(), format!("{rank}\n"));
            prop_assert_eq!(mine, first);
        }
    }
}
