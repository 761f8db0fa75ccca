//! A device and a gateway over a bad line: what the device stored arrives once and in order, whatever
//! is lost on the way and whoever loses power.

#[path = "support/broker.rs"]
mod support;
#[path = "support/wire.rs"]
mod wire;

use forebay::command::Grade;
use forebay::leaf::{Answer, Event, LeafError, LeafOptions, WhenFull};
use forebay::protocol::wire::{Access, Device};
use forebay::wire::frame::Code;
use wire::{refusing, Noise, Random, World};

/// What the device was promised, and what it may have.
#[derive(Default)]
struct Ledger {
    next: u32,
    /// Stored for sure.
    stored: Vec<String>,
    /// Power went while it was stored.
    in_doubt: Vec<String>,
}

impl Ledger {
    fn publish(&mut self, world: &mut World) {
        let body = format!("{:05} {}", self.next, "x".repeat(world.random.below(120) as usize));
        self.next += 1;
        match world.publish("up/t", &body) {
            Ok(_) => self.stored.push(body),
            Err(LeafError::Full) => {}
            Err(_) => self.in_doubt.push(body),
        }
    }

    /// Everything that was stored is there once and in order, with nothing else but what is in doubt.
    fn check(&self, arrived: &[String], seed: u64) {
        let certain: Vec<&String> = arrived.iter().filter(|body| !self.in_doubt.contains(body)).collect();
        let stored: Vec<&String> = self.stored.iter().collect();
        if certain != stored {
            let missing: Vec<_> = stored.iter().filter(|body| !certain.contains(body)).collect();
            panic!("seed {seed}: {} of {} arrived; missing {missing:?}", certain.len(), stored.len());
        }
        assert!(arrived.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: doubled or out of order");
    }
}

fn noise(random: &mut Random) -> Noise {
    let rate = |random: &mut Random, worst: u64| match random.below(3) {
        0 => 0,
        1 => worst * 20,
        _ => worst,
    };
    Noise {
        lose: rate(random, 400),
        flip: rate(random, 400),
        drop: rate(random, 30),
        double: rate(random, 30),
    }
}

/// A life of resets and noise.
fn torment(seed: u64, steps: u32) -> (u64, usize) {
    let mut world = World::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, refusing(), Access::default());
    let mut ledger = Ledger::default();
    world.noise = noise(&mut world.random);
    world.cuts_starts = true;
    for _ in 0..steps {
        let span_ms =
            if world.random.once_in(40) { world.random.below(6000) } else { world.random.below(30) };
        world.step(span_ms);
        if world.random.once_in(4) {
            ledger.publish(&mut world);
        }
        if world.chip.0.borrow().is_cut() || world.leaf.is_none() {
            world.restart_device();
        }
        match world.random.below(300) {
            0 | 1 => world.restart_device(),
            2 => world.reopen_line(),
            3 => world = world.restart_gateway(),
            4 => world.noise = noise(&mut world.random),
            5..=8 => {
                let steps = world.random.below(2000);
                world.chip.0.borrow_mut().cut_after(steps);
            }
            _ => {}
        }
        world.start_until_up();
    }
    let arrived = world.come_to_rest();
    ledger.check(&arrived, seed);
    (world.bytes_up, arrived.len())
}

#[test]
fn what_was_stored_arrives_once_and_in_order_whatever_happens() {
    let count = std::env::var("WIRE_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    let first = std::env::var("WIRE_FIRST").ok().and_then(|first| first.parse().ok()).unwrap_or(1);
    let mut total = 0;
    for seed in first..first + count {
        total += torment(seed, 1500).1;
    }
    assert!(total > 100 * count as usize, "{total} messages in {count} lives");
}

#[test]
fn a_good_line_carries_each_message_once() {
    let mut world = World::new(3, refusing(), Access::default());
    for number in 0..50 {
        world.publish("up/t", &format!("{number:02}")).unwrap();
    }
    world.run_dry();
    let arrived = world.arrived();
    assert_eq!(arrived, (0..50).map(|number| format!("{number:02}")).collect::<Vec<_>>());
    // Hello, Open, Ping and what a message costs: nothing was sent twice.
    assert!(world.bytes_up < 50 * 24 + 80, "{}", world.bytes_up);
}

#[test]
fn a_backlog_from_before_the_link_arrives_in_order() {
    let mut world = World::new(5, refusing(), Access::default());
    world.noise = Noise { drop: 1, ..Noise::default() };
    let mut ledger = Ledger::default();
    for _ in 0..200 {
        ledger.publish(&mut world);
        world.step(100);
    }
    world.restart_device();
    world.run_dry();
    ledger.check(&world.arrived(), 5);
    assert_eq!(ledger.stored.len(), 200);
}

#[test]
fn a_full_flash_refuses_or_drops_the_oldest() {
    let mut world = World::new(7, refusing(), Access::default());
    world.noise = Noise { drop: 1, ..Noise::default() };
    let mut ledger = Ledger::default();
    for _ in 0..1000 {
        ledger.publish(&mut world);
    }
    assert!(ledger.stored.len() > 200 && ledger.stored.len() < 900, "{}", ledger.stored.len());
    world.restart_device();
    world.run_dry();
    ledger.check(&world.arrived(), 7);

    let options = LeafOptions { when_full: WhenFull::DropOldest, ..refusing() };
    let mut world = World::new(8, options, Access::default());
    let mut ledger = Ledger::default();
    for step in 0..1000 {
        // The first ones are on their way when they are dropped.
        world.noise = Noise { drop: u64::from(step > 20), ..Noise::default() };
        ledger.publish(&mut world);
        world.step(1);
    }
    assert_eq!(ledger.stored.len(), 1000);
    let dropped = world.leaf.as_ref().unwrap().stats().dropped as usize;
    world.restart_device();
    world.run_dry();
    let arrived = world.arrived();
    assert!(arrived.len() + dropped >= 1000 && dropped > 100, "{} + {dropped}", arrived.len());
    assert!(arrived.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(arrived.last(), ledger.stored.last());
}

#[test]
fn what_the_device_subscribed_to_comes_down_through_noise_and_resets() {
    for seed in 1..20 {
        let options = LeafOptions { subscriptions: &["to/pump-7/#", "to/all"], ..refusing() };
        let mut world = World::new(seed, options, Access::default());
        for _ in 0..100 {
            world.step(50);
        }
        world.noise = Noise { lose: 500, flip: 500, drop: 40, double: 40 };
        let mut sent = Vec::new();
        for number in 0..150 {
            let body = format!("{number:03}");
            let topic = if number % 3 == 0 { "to/all" } else { "to/pump-7/set" };
            world.bench.topic(topic, &body, Grade::AtLeastOnce, false);
            sent.push(body);
            for _ in 0..4 {
                let span_ms = world.random.below(100);
                world.step(span_ms);
            }
            if world.random.once_in(40) {
                world.restart_device();
            }
            if world.random.once_in(60) {
                world = world.restart_gateway();
            }
            if world.random.once_in(6) {
                world.told.answers.push_back(Answer::Later(200));
            }
        }
        world.noise = Noise::default();
        for _ in 0..6000 {
            world.step(20);
        }
        let mut seen = std::collections::BTreeSet::new();
        for (body, redelivered) in &world.told.bodies {
            let is_new = seen.insert(body.clone());
            assert!(is_new || *redelivered, "seed {seed}: {body} came again unmarked");
        }
        let missing: Vec<_> = sent.iter().filter(|body| !seen.contains(*body)).collect();
        assert!(missing.is_empty(), "seed {seed}: {missing:?}");
    }
}

#[test]
fn without_a_reset_each_delivery_is_handed_over_once() {
    let options = LeafOptions { subscriptions: &["to/#"], ..refusing() };
    let mut world = World::new(77, options, Access::default());
    for _ in 0..100 {
        world.step(50);
    }
    world.noise = Noise { lose: 300, flip: 300, ..Noise::default() };
    for number in 0..200 {
        world.bench.topic("to/x", &format!("{number:03}"), Grade::AtLeastOnce, false);
        world.step(30);
    }
    world.noise = Noise::default();
    for _ in 0..4000 {
        world.step(20);
    }
    let bodies: Vec<_> = world.told.bodies.iter().map(|(body, _)| body.clone()).collect();
    if !world.told.events.contains(&Event::Down) {
        assert_eq!(bodies, (0..200).map(|number| format!("{number:03}")).collect::<Vec<_>>());
    }
    assert!(bodies.len() >= 200);
}

#[test]
fn a_device_publishes_and_subscribes_only_what_it_may() {
    let device = Device {
        name: "pump-*".into(),
        secret: Some("s3cret".into()),
        publish: vec!["up/%d/#".into()],
        subscribe: vec!["to/%d".into()],
    };
    let access = Access { devices: vec![device] };
    let options = LeafOptions { secret: b"s3cret", subscriptions: &["to/#", "to/pump-7"], ..refusing() };
    let mut world = World::new(9, options, access.clone());
    world.publish("up/pump-7/t", "mine").unwrap();
    world.publish("up/pump-8/t", "another's").unwrap();
    world.publish("up/pump-7/u", "mine too").unwrap();
    world.run_dry();
    for _ in 0..100 {
        world.step(50);
    }
    assert!(world.told.events.contains(&Event::Rejected(2, Code::Forbidden)), "{:?}", world.told.events);
    assert!(world.told.events.contains(&Event::NotGranted(0, Code::Forbidden)));
    world.bench.topic("to/pump-7", "for it", Grade::AtLeastOnce, false);
    for _ in 0..100 {
        world.step(50);
    }
    assert_eq!(world.told.bodies, [("for it".to_string(), false)]);
    assert_eq!(world.arrived(), ["mine", "mine too"]);

    for options in [refusing(), LeafOptions { device: "fan-1", secret: b"s3cret", ..refusing() }] {
        let mut world = World::new(9, options, access.clone());
        world.publish("up/pump-7/t", "kept").unwrap();
        for _ in 0..100 {
            world.step(50);
        }
        assert_eq!(world.told.events.first(), Some(&Event::Refused(Code::Unauthorized)));
        assert_eq!(world.leaf.as_ref().unwrap().stats().waiting, 1);
    }
}

#[test]
fn the_device_learns_the_time_and_dates_what_it_stored_before() {
    let mut world = World::new(11, refusing(), Access::default());
    world.bench.now = world.bench.now.after(200 * 86_400_000);
    world.uptime = world.uptime.after(5000);
    assert_eq!(world.leaf.as_ref().unwrap().time_ms(world.uptime), None);
    world.publish("up/t", "before").unwrap();
    world.run_dry();
    let told = world.leaf.as_ref().unwrap().time_ms(world.uptime).expect("the gateway told");
    let is = world.bench.now.0 + forebay::time::EPOCH_UNIX_MS;
    assert!(told.abs_diff(is) < 50, "{told} {is}");
}
