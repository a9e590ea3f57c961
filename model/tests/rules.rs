//! Each rule is needed: without it the check finds how a promise is broken.
//!
//! A line names the rule, one way to get it wrong, where that shows, and the promise that is broken. To
//! see the schedules: `cargo test -p deltapoll-model --test rules -- --nocapture`.

use deltapoll_model::Bounds;
use deltapoll_model::Broken::{self, *};
use deltapoll_model::check::explore;
use deltapoll_model::properties::Property::{self, G1, G2, G3, Progress, Refusal};
use deltapoll_model::scenario::{
    ALONE, ARCHIVE, COPIES, COPIES_ARCHIVE, FOLLOWERS, MIXED, PAGES, REBUILD, ROT, VALIDATORS,
};

fn is_found(bounds: Bounds, broken: Broken, property: Property) {
    let report = explore(&bounds.without(broken), &[property]);
    println!("{broken:?}, {report}");
    let found = report.broken.map(|broken| broken.property);
    assert_eq!(found, Some(property), "{broken:?} makes no difference");
}

macro_rules! found {
    ($($name:ident: $broken:ident, $bounds:ident, $property:ident;)*) => {$(
        #[test]
        fn $name() {
            is_found($bounds, $broken, $property);
        }
    )*};
}

found! {
    r09_broken_is_found_before_seal: R09BeforeSeal, VALIDATORS, Progress;
    r12_broken_is_found_seen_before_sync: R12SeenBeforeSync, ALONE, G3;
    r12_broken_is_found_half_epoch_kept: R12HalfEpochKept, ALONE, G1;
    r13_broken_is_found_torn_is_damage: R13TornIsDamage, ALONE, Refusal;
    r13_broken_is_found_damage_is_torn: R13DamageIsTorn, ROT, G3;
    r14_broken_is_found_not_written_anew: R14NotWrittenAnew, ALONE, Refusal;
    r15_broken_is_found_goes_on: R15GoesOn, ALONE, Refusal;
    r16_broken_is_found_unchecked: R16Unchecked, MIXED, G1;
    r16_broken_is_found_pages_ahead: R16PagesAhead, MIXED, G3;
    r17_broken_is_found_no_last_seq: R17NoLastSeq, COPIES, G1;
    r17_broken_is_found_same_incarnation: R17SameIncarnation, COPIES, G1;
    r17_broken_is_found_not_synced: R17NotSynced, ALONE, Refusal;
    r17_broken_is_found_no_mark: R17NoMark, ALONE, Refusal;
    r18_broken_is_found_read_once: R18ReadOnce, COPIES, G1;
    r19_broken_is_found_from_memory: R19FromMemory, ALONE, G1;
    r19_broken_is_found_abort: R19Abort, ALONE, G1;
    r20_broken_is_found_gives_up: R20GivesUp, ALONE, Progress;
    r21_broken_is_found_progress_later: R21ProgressLater, ALONE, G1;
    r21_broken_is_found_not_awaited: R21NotAwaited, ALONE, G1;
    r21_broken_is_found_half_epoch: R21HalfEpoch, ALONE, G1;
    r24_broken_is_found_ahead_of_publish: R24AheadOfPublish, COPIES_ARCHIVE, G2;
    r24_broken_is_found_before_start: R24BeforeStart, ARCHIVE, Refusal;
    r24_broken_is_found_position_is_read: R24PositionIsRead, ARCHIVE, G2;
    r25_broken_is_found_overwrites: R25Overwrites, COPIES_ARCHIVE, G2;
    r25_broken_is_found_not_judged: R25NotJudged, ARCHIVE, G2;
    r25_broken_is_found_always_conflict: R25AlwaysConflict, ARCHIVE, Refusal;
    r25_broken_is_found_ambiguous_is_done: R25AmbiguousIsDone, ARCHIVE, G2;
    r27_broken_is_found_ahead_of_seal: R27AheadOfSeal, PAGES, G3;
    r27_broken_is_found_position_first: R27PositionFirst, PAGES, Refusal;
    r27_broken_is_found_greatest: R27Greatest, PAGES, G3;
    r28_broken_is_found_no_replay: R28NoReplay, ALONE, G1;
    r30_broken_is_found_not_archive: R30NotArchive, FOLLOWERS, Refusal;
    r30_broken_is_found_not_remember: R30NotRemember, PAGES, Refusal;
    r30_broken_is_found_positions_later: R30PositionsLater, PAGES, Refusal;
    r35_broken_is_found_topic_first: R35TopicFirst, REBUILD, G1;
    r35_broken_is_found_not_again: R35NotAgain, REBUILD, G3;
    r35_broken_is_found_no_incarnation: R35NoIncarnation, REBUILD, Refusal;
    r35_broken_is_found_not_read_back: R35NotReadBack, REBUILD, G2;
}
