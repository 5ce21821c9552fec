//! Which etcd is new enough.

/// What is to be said about a version of etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Fine,
    /// It works, with known faults.
    Faulty,
    /// It lacks what is needed.
    TooOld,
}

/// Judges a version such as `3.4.23`. Reads that should be current may be stale in 3.4 below 3.4.42, 3.5 below 3.5.28
/// and 3.6 below 3.6.9 (reliability F11); nothing here rests on such a read, but an operator should know.
pub(super) fn judge(version: &str) -> Judgement {
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse::<u32>());
    let (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) = (numbers.next(), numbers.next(), numbers.next()) else {
        return Judgement::Fine;
    };
    let mended = match (major, minor) {
        (0..3, _) | (3, 0..4) => return Judgement::TooOld,
        (3, 4) => 42,
        (3, 5) => 28,
        (3, 6) => 9,
        _ => 0,
    };
    if patch < mended { Judgement::Faulty } else { Judgement::Fine }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_judged_by_their_own_line() {
        for (version, judgement) in [
            ("3.3.27", Judgement::TooOld),
            ("2.3.8", Judgement::TooOld),
            ("3.4.23", Judgement::Faulty),
            ("3.4.42", Judgement::Fine),
            ("3.5.27", Judgement::Faulty),
            ("3.5.28", Judgement::Fine),
            ("3.6.8", Judgement::Faulty),
            ("3.6.16", Judgement::Fine),
            ("3.7.0-alpha.0", Judgement::Fine),
            ("not a version", Judgement::Fine),
        ] {
            assert_eq!(judge(version), judgement, "{version}");
        }
    }
}
