//! A few worlds, as many as a build without optimisation has time for; `make sim` runs thousands.

use muster_simulation::{Mutant, Options, run, timeline};

#[test]
fn nothing_breaks_in_twenty_worlds() {
    for seed in 1..=20 {
        let outcome = run(seed, Options::default());
        if let Some((invariant, what)) = outcome.broken {
            panic!("{}\nseed {seed} broke {invariant}: {what}", timeline(seed, Options::default(), false));
        }
    }
}

#[test]
fn a_seed_is_the_same_world_each_time_and_another_seed_another_one() {
    let hash = |seed| run(seed, Options::default()).hash;
    let first: Vec<u64> = (101..=103).map(hash).collect();
    let again: Vec<u64> = (101..=103).map(hash).collect();
    assert_eq!(first, again);
    assert!(first[0] != first[1] && first[1] != first[2]);
}

#[test]
fn a_world_can_be_read_as_a_timeline() {
    let text = timeline(1, Options::default(), true);
    assert!(text.contains("leads") && text.contains("store: c"), "{text}");
}

#[test]
fn the_worlds_of_mutants_are_sound_while_their_guards_stand() {
    for mutant in Mutant::all().iter().step_by(4) {
        let outcome = run(7, Options { mutant: Some(mutant), control: true });
        assert_eq!(outcome.broken, None, "{}", mutant.name);
    }
}

/// Guards of every kind: the store's, the shell's, the brain's, the worker's.
#[cfg(feature = "mutants")]
#[test]
fn a_guard_that_is_missing_is_missed() {
    for name in ["leader-compare", "persist-then-speak", "seal-first", "may-run", "worker-term"] {
        let mutant = Mutant::all().into_iter().find(|mutant| mutant.name == name).unwrap();
        let options = Options { mutant: Some(&mutant), control: false };
        assert!((1..=60).any(|seed| run(seed, options).broken.is_some()), "{name}");
    }
}
