//! What a leaf does when its flash is full, and what it sends first, in sentences.

#[path = "support/broker.rs"]
mod support;
#[path = "support/wire.rs"]
mod wire;

use std::collections::BTreeSet;

use forebay::leaf::{LeafError, LeafOptions, Message, SendOrder, WhenFull};
use forebay::protocol::wire::Access;
use wire::{refusing, Noise, World};

const SILENT: Noise = Noise { lose: 0, flip: 0, drop: 1, double: 0 };

fn world(seed: u64, when_full: WhenFull, order: SendOrder) -> World {
    World::new(seed, LeafOptions { when_full, order, ..refusing() }, Access::default())
}

fn publish(world: &mut World, topic: &str, body: &str, priority: u8) -> Result<u64, LeafError> {
    let Some(leaf) = &mut world.leaf else { return Err(LeafError::ReadOnly) };
    let message = Message { topic, body: body.as_bytes(), priority, ..Message::default() };
    leaf.publish(&message, world.uptime)
}

fn dropped(world: &World) -> usize {
    world.leaf.as_ref().map_or(0, |leaf| leaf.stats().dropped as usize)
}

fn is_once(arrived: &[String]) -> bool {
    arrived.iter().collect::<BTreeSet<_>>().len() == arrived.len()
}

fn body(number: u32, kind: &str) -> String {
    format!("{number:05} {kind} {}", "x".repeat(40))
}

#[test]
fn the_lowest_priority_makes_room_for_the_others() {
    let mut world = world(11, WhenFull::DropLowest, SendOrder::OldestFirst);
    world.noise = SILENT;
    let count = 3500;
    for number in 0..count {
        let (kind, priority) = if number % 10 == 0 { ("alarm", 7) } else { ("reading", 2) };
        publish(&mut world, "up/t", &body(number, kind), priority).unwrap();
    }
    let lost = dropped(&world);
    assert!(lost > 2000, "{lost}");
    world.run_dry();
    let arrived = world.arrived();
    assert!(is_once(&arrived));
    assert_eq!(arrived.len() + lost, count as usize);
    // All but those of the first 64 messages, of which a leaf does not know whether they were sent before it started.
    let alarms = arrived.iter().filter(|body| body.contains("alarm")).count();
    assert!(alarms >= 350 - 7, "{alarms}");
    // The newest readings are there, the oldest are not.
    assert!(arrived.contains(&body(count - 1, "reading")));
    assert!(!arrived.contains(&body(101, "reading")));
}

#[test]
fn where_all_are_of_one_priority_the_oldest_go() {
    let mut world = world(12, WhenFull::DropLowest, SendOrder::OldestFirst);
    world.noise = SILENT;
    for number in 0..2000 {
        publish(&mut world, "up/t", &body(number, "r"), 5).unwrap();
    }
    let lost = dropped(&world);
    world.run_dry();
    let arrived = world.arrived();
    let expected: Vec<_> = (lost as u32..2000).map(|number| body(number, "r")).collect();
    assert_eq!(arrived, expected);
}

#[test]
fn the_last_of_each_topic_is_kept() {
    let mut world = world(13, WhenFull::KeepLast, SendOrder::OldestFirst);
    world.noise = SILENT;
    for number in 0..100 {
        publish(&mut world, "up/t", &body(number, "early"), 0).unwrap();
    }
    for valve in 0..12 {
        publish(&mut world, &format!("up/valve/{valve}"), &body(valve, "valve"), 0).unwrap();
    }
    for number in 0..4000 {
        publish(&mut world, &format!("up/{}", number % 3), &body(number, "r"), 0).unwrap();
    }
    publish(&mut world, "up/valve/3", "open", 0).unwrap();
    for number in 4000..8000 {
        publish(&mut world, &format!("up/{}", number % 3), &body(number, "r"), 0).unwrap();
    }
    let lost = dropped(&world);
    world.run_dry();
    let arrived = world.arrived();
    assert!(is_once(&arrived));
    assert_eq!(arrived.len() + lost, 8113);
    let valves: BTreeSet<_> = arrived.iter().filter(|body| body.contains("valve")).cloned().collect();
    let expected: BTreeSet<_> =
        (0..12).filter(|&valve| valve != 3).map(|valve| body(valve, "valve")).collect();
    assert_eq!(valves, expected);
    assert!(arrived.contains(&"open".to_string()));
    assert!((7990..8000).all(|number| arrived.contains(&body(number, "r"))));
}

#[test]
fn a_flash_full_of_last_values_still_takes_new_ones() {
    let mut world = world(14, WhenFull::KeepLast, SendOrder::OldestFirst);
    world.noise = SILENT;
    for number in 0..3000 {
        publish(&mut world, &format!("up/{number}"), &body(number, "r"), 0).unwrap();
    }
    let lost = dropped(&world);
    world.run_dry();
    let arrived = world.arrived();
    assert!(is_once(&arrived) && arrived.contains(&body(2999, "r")));
    assert_eq!(arrived.len() + lost, 3000);
}

#[test]
fn what_is_published_in_a_session_goes_before_the_backlog() {
    let mut world = world(15, WhenFull::Refuse, SendOrder::NewestFirst);
    world.noise = SILENT;
    let waiting: Vec<_> = (0..300).map(|number| body(number, "waited")).collect();
    for body in &waiting {
        publish(&mut world, "up/t", body, 0).unwrap();
    }
    world.restart_device();
    world.noise = Noise::default();
    while !world.leaf.as_ref().unwrap().stats().is_up {
        world.step(10);
    }
    let fresh: Vec<_> = (0..20).map(|number| body(number, "fresh")).collect();
    for body in &fresh {
        publish(&mut world, "up/t", body, 0).unwrap();
        world.step(10);
    }
    world.run_dry();
    let arrived = world.arrived();
    let of = |kind: &str| arrived.iter().filter(|body| body.contains(kind)).cloned().collect::<Vec<_>>();
    assert_eq!((of("waited"), of("fresh")), (waiting, fresh), "each in its order");
    let last_fresh = arrived.iter().rposition(|body| body.contains("fresh"));
    assert!(last_fresh.is_some_and(|place| place < 150), "{last_fresh:?}");
}

/// A life of resets, noise and a flash that is full again and again; what arrived.
fn torment(seed: u64, when_full: WhenFull, order: SendOrder) {
    let mut world = world(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, when_full, order);
    world.cuts_starts = true;
    let (mut number, mut stored) = (0, BTreeSet::new());
    let mut in_doubt = BTreeSet::new();
    for _ in 0..600 {
        let span_ms =
            if world.random.once_in(60) { world.random.below(6000) } else { world.random.below(20) };
        world.step(span_ms);
        // While nothing gets through the flash is to fill up.
        for _ in 0..world.random.below(if world.noise.drop == 1 { 12 } else { 2 }) {
            let topic = format!("up/{}", world.random.below(6));
            let text = format!("{number:05} {}", "x".repeat(world.random.below(60) as usize));
            let priority = world.random.below(4) as u8;
            match publish(&mut world, &topic, &text, priority) {
                Ok(_) => stored.insert(text),
                Err(LeafError::Full) => false,
                Err(_) => in_doubt.insert(text),
            };
            number += 1;
        }
        match world.random.below(200) {
            0 => world.restart_device(),
            1 => world.reopen_line(),
            2 => world = world.restart_gateway(),
            3..=5 => world.noise = SILENT,
            6..=7 => world.noise = Noise::default(),
            8..=10 => {
                let steps = world.random.below(4000);
                world.chip.0.borrow_mut().cut_after(steps);
            }
            _ => {}
        }
        if world.chip.0.borrow().is_cut() {
            world.restart_device();
        }
        world.start_until_up();
    }
    let arrived = world.come_to_rest();
    let mut seen = BTreeSet::new();
    let twice = arrived.iter().find(|body| !seen.insert(*body));
    assert_eq!(twice, None, "seed {seed}, {when_full:?}, {order:?}");
    let strange = arrived.iter().find(|body| !stored.contains(*body) && !in_doubt.contains(*body));
    assert_eq!(strange, None, "seed {seed}");
    if when_full == WhenFull::Refuse {
        let missing = stored.iter().find(|body| !arrived.contains(body));
        assert_eq!(missing, None, "seed {seed}: of {}", stored.len());
    }
}

#[test]
fn nothing_arrives_twice_whatever_is_kept_and_sent_first() {
    let count = std::env::var("LEAF_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(12);
    for seed in 1..=count {
        for policy in [WhenFull::DropOldest, WhenFull::DropLowest, WhenFull::KeepLast, WhenFull::Refuse] {
            for order in [SendOrder::OldestFirst, SendOrder::NewestFirst] {
                torment(seed, policy, order);
            }
        }
    }
}
