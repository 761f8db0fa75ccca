//! A bounded part of every systematic campaign, and defects that they have to catch.

use forebay::flash::fault::{FaultFlash, Tear};
use forebay::gateway::torture::campaign::{
    bad_segments, boot_loops, broker, every_byte, flips, images, phantoms, two_cuts, Bounds, CAMPAIGNS,
};
use forebay::gateway::torture::inspect::{Depth, Inspector};
use forebay::gateway::torture::script::{plain_bodies, record, record_on};
use forebay::gateway::torture::stats::{Failure, Stats};
use forebay::gateway::torture::toy::Bench;

/// The seed of these runs; `forebay torture` takes others.
const SEED: u64 = 1;

fn run(campaign: fn(&Bounds, u64) -> Result<Stats, Failure>, cases_apart: u64, cuts_apart: u64) -> Stats {
    let bounds = Bounds { cases_apart, cuts_apart, ..Bounds::ALL };
    let stats = campaign(&bounds, SEED).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{stats}");
    stats
}

#[test]
fn power_cut_at_every_byte_keeps_what_was_durable() {
    let stats = run(every_byte::run, 1, 1);
    assert!(stats.cuts > 400_000 && stats.recoveries > 300_000, "{stats}");
    assert!(stats.mounts > stats.cuts * 5 / 4 && stats.continued > stats.cuts / 33, "{stats}");
}

#[test]
fn power_cut_again_at_every_byte_of_a_recovery_keeps_what_was_durable() {
    let stats = run(two_cuts::run, 1, 211);
    assert!(stats.cuts > 500_000 && stats.recoveries > 300_000 && stats.continued > 5_000, "{stats}");
}

#[test]
fn payloads_that_look_like_records_are_never_taken_for_them() {
    let stats = run(phantoms::run, 1, 5);
    assert!(stats.cuts > 80_000 && stats.recoveries > 60_000, "{stats}");
}

#[test]
fn power_cut_at_any_byte_of_a_broker_keeps_what_it_confirmed() {
    let stats = run(broker::run, 1, 4);
    assert!(stats.cuts > 60_000 && stats.recoveries > 50_000 && stats.continued > 1_000, "{stats}");
}

#[test]
fn power_that_comes_and_goes_takes_neither_messages_nor_room() {
    let stats = run(boot_loops::run, 37, 1);
    assert!(stats.cuts > 50_000 && stats.recoveries > 10_000 && stats.continued > 50, "{stats}");
}

#[test]
fn a_device_that_gets_worse_keeps_what_was_durable() {
    let stats = run(bad_segments::run, 4, 1);
    assert!(stats.cuts > 30_000 && stats.recoveries > 15_000, "{stats}");
}

#[test]
fn segments_that_refuse_one_after_the_other_keep_what_was_durable() {
    for (seed, case) in [
        // Those before the last free one refused while a sync was under way: what marks it as counting told of what
        // was below it, and what was confirmed in it was gone.
        (100, 5555),
        // Of three that a recovery tried one counted, and the others refused to be erased: it was taken for one of them.
        (2, 6135),
        (301, 7871),
        (402, 9847),
    ] {
        let bounds = Bounds { case: Some(case), ..Bounds::ALL };
        let stats = bad_segments::run(&bounds, seed).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(stats.mounts > 5, "{stats}");
    }
}

#[test]
fn one_flipped_bit_costs_nothing_and_a_struck_byte_what_it_hits_and_says_so() {
    let stats = run(flips::run, 1, 67);
    assert!(stats.cuts > 50_000 && stats.recoveries > 300 && stats.lost > 100, "{stats}");
}

#[test]
fn an_image_that_nobody_wrote_mounts_in_bounded_steps_or_is_refused() {
    let stats = run(images::run, 4, 2);
    assert!(stats.cuts > 100_000 && stats.continued > 80_000, "{stats}");
    assert!(stats.refused > 500 && stats.reported > 10_000, "{stats}");
}

#[test]
fn a_head_that_only_has_to_be_written_down_does_not_wait_for_what_reclaim_never_passes() {
    // A header with a forged checksum hid a record; reclaim offered what is around it for ever.
    let bounds = Bounds { case: Some(1735), cut: Some(358), ..Bounds::ALL };
    let stats = images::run(&bounds, 20_261_212).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(stats.cuts, 1, "{stats}");
}

#[test]
fn every_campaign_has_a_name_of_its_own_and_says_what_it_does() {
    for (place, campaign) in CAMPAIGNS.iter().enumerate() {
        assert!(campaign.cases > 0 && campaign.about.len() > 20, "{}", campaign.name);
        assert!(CAMPAIGNS.iter().skip(place + 1).all(|other| other.name != campaign.name));
    }
}

/// The case of campaign 1 on a cached device with units of 16 bytes, cut with this tear.
fn cached_case(tear: Tear) -> u64 {
    let wanted = |&number: &u64| {
        let (setting, found) = every_byte::case(number);
        setting.cached && setting.geometry.write_unit == 16 && found == tear
    };
    (0..every_byte::CASES).find(wanted).expect("there is such a case")
}

#[test]
fn a_device_that_lies_about_its_syncs_is_caught() {
    let number = cached_case(Tear::Prefix);
    let bodies = plain_bodies(every_byte::MESSAGES - every_byte::SPARE, SEED);
    let lie = |flash: &mut FaultFlash| flash.lie_about_syncs(true);
    let script = every_byte::script_of(number, SEED);
    let recording = record_on(&every_byte::case(number).0, bodies, every_byte::ACTS, script, lie);
    let caught = every_byte::sweep("lies", &Bounds::ALL, number, SEED, recording);
    let failure = caught.expect_err("a message that was confirmed is gone");
    assert!(failure.what.contains("a state that is not allowed"), "{failure}");
    assert!(failure.to_string().contains("--campaign lies --seed 1 --case"), "{failure}");
}

#[test]
fn a_device_that_forgets_one_synced_unit_is_caught_wherever_a_message_stands() {
    let number = cached_case(Tear::Prefix);
    let (setting, tear) = every_byte::case(number);
    let bodies = plain_bodies(every_byte::MESSAGES - every_byte::SPARE, SEED);
    let recording = record(&setting, bodies, every_byte::ACTS, SEED).expect("the script runs");
    let mut player = recording.tape.play();
    // Everything is over, also what took no step.
    player.seek(u64::MAX);
    let mut device = setting.device(SEED).expect("such a device");
    player.cut(tear, SEED, &mut device);
    let bench = Bench::new(setting.geometry, setting.tail);
    let mut inspector = Inspector::new(bench, every_byte::MESSAGES);
    let allowed = [recording.ledger.last()];
    let whole = inspector.inspect(&mut device, &allowed, &recording.bodies, Depth::On, tear);
    assert_eq!(whole, Ok(()));
    // What was published last stands twice: where it was, and where the mount copied it to.
    let allowed = [inspector.print()];
    let image = device.image().to_vec();
    let places = inspector.places();
    let (certain, _) = places.split_at(places.len() - 4);
    assert!(certain.len() > 3, "{places:?}");
    let unit = setting.geometry.write_unit as usize;
    for &at in certain {
        let mut forgetful = image.clone();
        let start = at as usize / unit * unit;
        // Whatever stood there before, it is something else.
        forgetful[start..start + unit].iter_mut().for_each(|byte| *byte = !*byte);
        device.load(&forgetful);
        let found = inspector.inspect(&mut device, &allowed, &recording.bodies, Depth::Once, tear);
        assert!(found.is_err(), "the unit at {start} is missed by nobody");
    }
}
