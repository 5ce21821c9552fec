use super::*;
use LeadershipEffect as Does;
use LeadershipEvent as Event;

const OURS: LeaderKey = LeaderKey { revision: 10, lease: 1 };
const THEIRS: LeaderKey = LeaderKey { revision: 9, lease: 2 };

fn at(ms: u64) -> Moment {
    Moment(ms)
}

/// A follower that holds lease 1, granted at 0.
fn follower() -> Leadership {
    let mut us = Leadership::new(LeadershipSettings::default());
    assert_eq!(us.apply(at(0), Event::Tick), [Does::Grant]);
    assert_eq!(us.apply(at(10), Event::Granted { lease: 1, sent_at: at(0) }), [Does::Campaign(1)]);
    us
}

fn leader() -> Leadership {
    let mut us = follower();
    assert_eq!(us.apply(at(20), Event::Saw(Some(OURS))), [Does::Restore { revision: 10 }]);
    assert_eq!(us.apply(at(30), Event::Restored), [Does::Lead { revision: 10 }]);
    us
}

#[test]
fn whoever_makes_the_key_leads_once_everything_is_listed() {
    let us = leader();
    assert_eq!(us.role(), Role::Leader);
    assert!(us.is_valid(at(7_999)));
    // Counted from when the lease was asked for, a second less than the store counts.
    assert!(!us.is_valid(at(8_000)));
}

#[test]
fn a_keepalive_counts_from_when_it_was_sent() {
    let mut us = leader();
    assert_eq!(us.apply(at(2_010), Event::Tick), [Does::Keep(1)]);
    us.apply(at(6_000), Event::Kept { lease: 1, sent_at: at(2_010), alive: true });
    assert_eq!(us.valid_until(), Some(at(10_010)));
    // A late answer to an older keepalive takes nothing back.
    us.apply(at(6_001), Event::Kept { lease: 1, sent_at: at(10), alive: true });
    assert_eq!(us.valid_until(), Some(at(10_010)));
}

#[test]
fn a_leader_in_doubt_steps_down_and_comes_back_under_another_key() {
    let mut us = leader();
    assert_eq!(us.next_wakeup(), Some(at(2_010)));
    let effects = us.apply(at(8_000), Event::Tick);
    assert_eq!(effects, [Does::StepDown(StepDown::InDoubt), Does::Keep(1)]);
    // The lease turns out to live: too late.
    assert_eq!(us.apply(at(8_001), Event::Kept { lease: 1, sent_at: at(8_000), alive: true }), []);
    assert!(!us.is_valid(at(8_001)));
    assert_eq!(us.apply(at(8_100), Event::Stopped), [Does::Release(1), Does::Grant]);
    assert_eq!(us.apply(at(8_110), Event::Granted { lease: 3, sent_at: at(8_100) }), [Does::Look]);
    assert_eq!(us.apply(at(8_120), Event::Saw(None)), [Does::Campaign(3)]);
    let won = us.apply(at(8_130), Event::Saw(Some(LeaderKey { revision: 12, lease: 3 })));
    assert_eq!(won, [Does::Restore { revision: 12 }]);
}

#[test]
fn the_leader_key_of_another_is_waited_for_and_looked_at_again() {
    let mut us = follower();
    assert_eq!(us.apply(at(20), Event::Saw(Some(THEIRS))), []);
    assert_eq!(us.apply(at(3_010), Event::Tick), [Does::Keep(1), Does::Look]);
    // An old reading, from before theirs was made.
    us.apply(at(3_020), Event::Saw(Some(LeaderKey { revision: 4, lease: 7 })));
    assert_eq!(us.seen(), Some(THEIRS));
    assert_eq!(us.apply(at(3_030), Event::Saw(None)), [Does::Campaign(1)]);
}

#[test]
fn a_campaign_whose_answer_was_lost_is_made_again() {
    let mut us = follower();
    assert_eq!(us.apply(at(1_010), Event::Tick), [Does::Campaign(1)]);
    assert_eq!(us.apply(at(1_020), Event::Saw(Some(OURS))), [Does::Restore { revision: 10 }]);
}

#[test]
fn a_victory_that_is_heard_of_too_late_is_none() {
    let mut us = follower();
    assert_eq!(us.apply(at(9_000), Event::Saw(Some(OURS)))[0], Does::StepDown(StepDown::InDoubt));
    assert_eq!(us.role(), Role::SteppingDown);
}

#[test]
fn one_old_reading_deposes_nobody_but_a_newer_key_or_two_readings_without_ours_do() {
    let mut us = leader();
    assert_eq!(us.apply(at(40), Event::Saw(Some(THEIRS))), []);
    assert_eq!(us.apply(at(50), Event::Saw(None)), [Does::Look]);
    assert_eq!(us.apply(at(60), Event::Saw(Some(OURS))), []);
    assert_eq!(us.apply(at(70), Event::Saw(None)), [Does::Look]);
    assert_eq!(us.apply(at(80), Event::Saw(None)), [Does::StepDown(StepDown::Deposed)]);
    let mut us = leader();
    let newer = LeaderKey { revision: 11, lease: 4 };
    assert_eq!(us.apply(at(40), Event::Saw(Some(newer))), [Does::StepDown(StepDown::Deposed)]);
}

#[test]
fn a_leader_that_is_proven_absent_is_not_waited_for() {
    let mut us = follower();
    us.apply(at(20), Event::Saw(Some(THEIRS)));
    assert_eq!(us.apply(at(30), Event::Absent { revision: 8 }), []);
    assert_eq!(us.apply(at(30), Event::Absent { revision: 9 }), [Does::Revoke(2)]);
    assert_eq!(us.apply(at(40), Event::Saw(None)), [Does::Campaign(1)]);
    let mut us = leader();
    assert_eq!(us.apply(at(40), Event::Absent { revision: 10 }), []);
}

#[test]
fn a_resignation_gives_the_lease_back_after_everything_has_ended() {
    let mut us = leader();
    assert_eq!(us.apply(at(40), Event::Resign), [Does::StepDown(StepDown::Resigned)]);
    assert_eq!(us.apply(at(50), Event::Stopped), [Does::Release(1), Does::Resigned]);
    assert_eq!((us.apply(at(60), Event::Tick), us.next_wakeup()), (vec![], None));
    let mut us = follower();
    assert_eq!(us.apply(at(40), Event::Resign), [Does::Release(1), Does::Resigned]);
    // A grant that was still under way.
    assert_eq!(us.apply(at(50), Event::Granted { lease: 5, sent_at: at(0) }), [Does::Release(5)]);
}

#[test]
fn the_lease_is_gone_or_a_write_was_fenced() {
    let mut us = leader();
    let gone = Event::Kept { lease: 1, sent_at: at(40), alive: false };
    assert_eq!(us.apply(at(50), gone.clone()), [Does::StepDown(StepDown::LeaseGone)]);
    assert_eq!(leader().apply(at(50), Event::Fenced), [Does::StepDown(StepDown::Fenced)]);
    // A follower asks for another lease.
    let mut us = follower();
    us.apply(at(20), Event::Saw(Some(THEIRS)));
    assert_eq!(us.apply(at(50), gone), [Does::Grant]);
}

#[test]
fn terms_grow_with_the_incarnation_even_when_revisions_go_back() {
    assert!(term_of(2, 3) > term_of(1, 1 << 40));
    assert_eq!(revision_of(term_of(2, 77)), 77);
    assert_eq!(term_of(0, 5), 5);
}
