//! The readers are only worth something if they find what is wrong.

use crate::support::readers;

#[test]
fn the_checker_finds_every_planted_error() {
    let found = readers::self_test();
    assert!(found["planted"].as_u64().unwrap() >= 12, "{found}");
}
