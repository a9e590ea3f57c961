//! The protocol as it is: no counterexample, in any state within the bounds.

use deltapoll_model::check::{always_ends, explore};
use deltapoll_model::properties::Property;
use deltapoll_model::scenario::{ALONE, COPIES_LOSS, LARGE, REBUILD, SMALL};

#[test]
fn model_no_state_within_the_bounds_breaks_a_promise() {
    let large = std::env::var("DELTAPOLL_MODEL").is_ok_and(|size| size == "large");
    let mut states = 0;
    for bounds in SMALL.iter().chain(LARGE.iter().filter(|_| large)) {
        let report = explore(bounds, &Property::ALL);
        println!("{report}");
        assert!(report.broken.is_none(), "{report}");
        assert!(report.ends > 0, "nobody comes to an end: {report}");
        states += report.states;
    }
    println!("{states} states in all");
}

#[test]
fn model_every_run_comes_to_an_end() {
    for bounds in [ALONE, COPIES_LOSS, REBUILD] {
        assert!(
            always_ends(&bounds),
            "{} goes round in circles",
            bounds.name
        );
    }
}
