//! The random simulator: what it runs, and that it finds what is planted.

use forebay::gateway::torture::seeded::Script;
use forebay::gateway::torture::shrink::shrink;
use forebay::gateway::torture::simulator::{run, Defect, Options, Stats};

#[test]
fn random_lives_with_up_to_five_cuts_in_a_row_keep_every_promise() {
    let mut stats = Stats::default();
    // The last ones failed once, of millions of others.
    for seed in (0..370).chain([8757, 400_561, 420_822, 423_216, 435_294, 479_709, 20_274_808]) {
        match run(seed, &Options::default()) {
            Ok(ran) => stats.add(&ran),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{stats:?}");
    assert!(stats.cuts > 8_000 && stats.cuts_in_mounts > 1_000, "{stats:?}");
    assert!(stats.deliveries > 5_000 && stats.refusals > 500, "{stats:?}");
}

#[test]
fn offsets_of_an_earlier_queue_of_an_id_say_nothing_of_the_next() {
    // They were told while their segment was there, and not by the mount behind that.
    run(9184, &Options::default()).unwrap_or_else(|failure| panic!("{failure}"));
}

fn is_found(defect: Defect) -> bool {
    let options = Options { defect: Some(defect), lives: 12, ..Options::default() };
    let found = (0..30).filter(|&seed| run(seed, &options).is_err()).count();
    println!("{defect:?} was found in {found} of 30 runs");
    found >= 10
}

#[test]
fn a_device_that_lies_about_its_syncs_is_found_out() {
    assert!(is_found(Defect::LyingSync));
}

#[test]
fn a_confirmed_message_that_is_not_there_is_missed() {
    assert!(is_found(Defect::Phantom));
}

#[test]
fn an_acknowledgement_that_is_undone_is_noticed() {
    assert!(is_found(Defect::FalseAck));
}

#[test]
fn a_failing_run_shrinks_and_says_how_to_see_it_again() {
    let options = Options { defect: Some(Defect::FalseAck), lives: 12, ..Options::default() };
    let seed = (0..30).find(|&seed| run(seed, &options).is_err()).expect("one fails");
    let script = Script::of(seed, &options);
    let small = shrink(&script).expect("it fails again");
    let size = |script: &Script| script.lives.iter().map(|life| life.actions.len()).sum::<usize>();
    assert!(size(&small.script) * 4 < size(&script), "{} of {}", size(&small.script), size(&script));
    let told = small.to_string();
    assert!(told.contains(&format!("forebay torture --campaign random --seed {seed}")), "{told}");
    assert!(!small.failure.trace.is_empty());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let stats = || run(400, &Options::default()).map_err(|failure| failure.to_string());
    assert_eq!(stats(), stats());
}
