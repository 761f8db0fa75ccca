//! Names, keys and arguments as long as AMQP allows, over restarts and laps of the log.

use crate::support::*;

fn name(letter: char) -> String {
    letter.to_string().repeat(255)
}

/// Declares everything at its longest; what was answered.
fn declare_all(world: &mut World, peer: u64) -> Vec<String> {
    let arguments = table(|table| table.text("alternate-exchange", &name('z')));
    let long_exchange =
        |name: &str| method(1, 40, 10, &[&[0, 0], &short(name), &short("topic"), &[2], &arguments]);
    for frame in [
        exchange(&name('z'), "fanout", 2),
        long_exchange(&name('x')),
        declare(&name('d'), DURABLE),
        declare_with(&name('q'), DURABLE, |table| {
            table.text("x-dead-letter-exchange", &name('z'));
            table.text("x-dead-letter-routing-key", &name('k'));
            table.int("x-max-length", 2);
        }),
        bind(&name('q'), &name('x'), &name('p')),
        bind(&name('d'), &name('z'), ""),
        bind_with(&name('q'), "amq.headers", &name('h'), |table| table.text("long", &"v".repeat(255))),
    ] {
        world.say(peer, &frame);
    }
    world.got(peer).iter().map(|line| line.split(' ').nth(1).unwrap().to_string()).collect()
}

fn works(world: &mut World) {
    let peer = world.connect();
    let answers = declare_all(world, peer);
    let declared = ["exchange.declare-ok", "exchange.declare-ok", "queue.declare-ok", "queue.declare-ok"];
    assert_eq!(answers, [&declared[..], &["queue.bind-ok"; 3]].concat());
    for text in ["a", "b", "c"] {
        world.say(peer, &publish(&name('x'), &name('p'), text));
    }
    let headers = table(|table| table.text("long", &"v".repeat(255)));
    world.say(peer, &publish_with("amq.headers", "", 1, (0x2000, &headers), "h"));
    world.say(peer, &publish(&name('x'), "elsewhere", "alternate"));
    assert!(world.got(peer).is_empty());
    // Two died of the limit, and one went to the alternate exchange.
    world.say(peer, &method(1, 50, 30, &[&[0, 0], &short(&name('q')), &[0]]));
    world.say(peer, &method(1, 50, 30, &[&[0, 0], &short(&name('d')), &[0]]));
    assert_eq!(world.got(peer), ["1 queue.purge-ok 2", "1 queue.purge-ok 3"]);
    world.wait(1000);
    world.lose(peer);
}

#[test]
fn the_longest_declarations_are_there_after_a_restart() {
    let mut world = World::new();
    works(&mut world);
    let mut world = world.restart();
    works(&mut world);
    // A declaration that differs in the last letter of its last name is another.
    let peer = world.connect();
    let other = format!("{}!", &name('k')[1..]);
    let differs = declare_with(&name('q'), DURABLE, |table| {
        table.text("x-dead-letter-exchange", &name('z'));
        table.text("x-dead-letter-routing-key", &other);
        table.int("x-max-length", 2);
    });
    world.say(peer, &differs);
    assert!(world.got(peer)[0].starts_with("1 channel.close 406"));
}

#[test]
fn the_longest_declarations_survive_laps_of_the_log() {
    let mut world = World::new();
    works(&mut world);
    for _ in 0..3 {
        let peer = world.connect();
        world.say(peer, &declare("filler", DURABLE));
        // More than the device holds.
        for _ in 0..400 {
            world.say(peer, &publish("", "filler", &"f".repeat(700)));
            world.say(peer, &get("filler", true));
            world.wait(100);
        }
        world.got(peer);
        world = world.restart();
        works(&mut world);
    }
}

#[test]
fn what_was_unbound_and_deleted_at_its_longest_stays_so() {
    let mut world = World::new();
    let peer = world.connect();
    declare_all(&mut world, peer);
    let unbind =
        [&[0, 0][..], &short(&name('q')), &short(&name('x')), &short(&name('p')), &table(|_| {})].concat();
    world.say(peer, &method(1, 50, 50, &[&unbind]));
    world.say(peer, &method(1, 50, 40, &[&[0, 0], &short(&name('d')), &[0]]));
    world.say(peer, &method(1, 40, 20, &[&[0, 0], &short(&name('z')), &[0]]));
    assert_eq!(world.got(peer), ["1 queue.unbind-ok", "1 queue.delete-ok 0", "1 exchange.delete-ok"]);
    let mut world = world.restart();
    let peer = world.connect();
    world.say(peer, &publish_with(&name('x'), &name('p'), 1, (0x1000, &[2]), "nobody"));
    assert!(world.got(peer)[0].starts_with("1 return 312 NO_ROUTE"));
    world.say(peer, &exchange(&name('z'), "", PASSIVE));
    assert!(world.got(peer)[0].starts_with("1 channel.close 404"));
    let peer = world.connect();
    world.say(peer, &declare(&name('d'), PASSIVE));
    assert!(world.got(peer)[0].starts_with("1 channel.close 404"));
}

#[test]
fn power_that_goes_in_the_middle_leaves_all_of_a_long_declaration_or_nothing() {
    let mut world = World::new();
    let peer = world.connect();
    world.bench.flash.medium.borrow_mut().hold_sync = true;
    declare_all(&mut world, peer);
    let written = world.bench.flash.medium.borrow().written.clone();
    let synced = world.bench.flash.medium.borrow().synced.clone();
    let end = written.iter().zip(&synced).rposition(|(new, old)| new != old).unwrap() + 1;
    let begin = written.iter().zip(&synced).position(|(new, old)| new != old).unwrap();
    let mut found = std::collections::BTreeSet::new();
    for cut in (begin / 4 * 4..=end.next_multiple_of(4)).step_by(36) {
        let medium = world.bench.flash.fork();
        {
            let mut medium = medium.medium.borrow_mut();
            medium.synced.clone_from(&synced);
            medium.synced[..cut].copy_from_slice(&written[..cut]);
        }
        medium.lose_power();
        let mut after = World::on(medium);
        let peer = after.connect();
        let mut there = String::new();
        for letter in ['z', 'x', 'd', 'q'] {
            let frame = match letter {
                'z' | 'x' => exchange(&name(letter), "", PASSIVE),
                _ => declare(&name(letter), PASSIVE),
            };
            let peer = after.connect();
            after.say(peer, &frame);
            if !after.got(peer)[0].contains("close") {
                there.push(letter);
            }
        }
        assert!("zxdq".starts_with(&there), "{there} at {cut}");
        // It goes on from there.
        after.say(peer, &declare("next", DURABLE));
        assert_eq!(after.got(peer), ["1 queue.declare-ok next 0 0"]);
        found.insert(there);
    }
    assert!(found.len() > 2, "{found:?}");
}

#[test]
fn a_long_topic_filter_is_there_after_a_restart() {
    use forebay::command::{Command, Grade, Message, Publish, Reply};
    use forebay::model::key::Key;
    let mut world = World::new();
    let topic = vec!["t".repeat(111); 6].join("/");
    let filter = format!("{topic}/+");
    world.bench.durable_queue("q");
    world.bench.bind("amq.topic", "q", Key::slashes(filter.as_bytes()), Grade::ExactlyOnce);
    world.bench.settle();
    let mut world = world.restart();
    for (last, expected) in [("/x", 1), ("/x/y", 0)] {
        let key = format!("{topic}{last}");
        let message = Message { key: Key::slashes(key.as_bytes()), headers: &[], body: b"" };
        let publish = Publish { exchange: "amq.topic", message, ..Publish::default() };
        let reply = world.bench.execute(Command::Publish(publish));
        assert!(matches!(reply, Ok(Reply::Published { routed, .. }) if routed == expected), "{reply:?}");
    }
}
