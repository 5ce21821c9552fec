//! What each rank writes about itself: once a second a word that no other process has, into a file of the job.
//!
//! Two words in one file: the rank was started twice. A word that comes again after another one: both lived at once.

use std::collections::BTreeSet;
use std::path::Path;

/// Writes, for so many seconds, and exits.
pub(super) fn script(seconds: u64, code: u8) -> String {
    format!(
        "rank=$(cat ${{UCLOUD_ETC:-/etc/ucloud}}/rank.txt); life=$(cat /proc/sys/kernel/random/uuid); n=0
while [ $n -lt {seconds} ]; do echo $life >> lives-$rank; n=$((n + 1)); sleep 1; done; exit {code}"
    )
}

/// In front of the script: rank 0 waits until all the others have written.
pub(super) fn wait_for_all(replicas: u64) -> String {
    format!(
        "if [ $(cat ${{UCLOUD_ETC:-/etc/ucloud}}/rank.txt) = 0 ]; then
while [ $(ls | grep -c '^lives-[^0]') -lt {} ]; do sleep 0.1; done; fi; ",
        replicas.saturating_sub(1)
    )
}

/// What one rank wrote.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lives {
    /// How often it was started.
    pub(super) starts: usize,
    /// Whether two of it lived at once.
    pub(super) overlap: bool,
    /// How often it wrote: once a second.
    pub(super) words: u64,
}

impl Lives {
    /// Reads what a rank wrote into the job's folder.
    pub(super) fn of(folder: &Path, rank: u64) -> Self {
        Self::parse(&std::fs::read_to_string(folder.join(format!("lives-{rank}"))).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let mut words: Vec<&str> = text.lines().collect();
        let count = words.len() as u64;
        words.dedup();
        let starts = words.iter().collect::<BTreeSet<_>>().len();
        Self { starts, overlap: words.len() > starts, words: count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_one_after_the_other_are_starts_and_lives_at_once_overlap() {
        assert_eq!(Lives::parse(""), Lives { starts: 0, overlap: false, words: 0 });
        assert_eq!(Lives::parse("a\na\n"), Lives { starts: 1, overlap: false, words: 2 });
        assert_eq!(Lives::parse("a\na\nb\n"), Lives { starts: 2, overlap: false, words: 3 });
        assert_eq!(Lives::parse("a\nb\na\n"), Lives { starts: 2, overlap: true, words: 3 });
    }
}
