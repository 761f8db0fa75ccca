//! What users may do.

use crate::support::*;
use forebay::protocol::amqp::{Permission, User};

/// A world in which `line` may make, write and read a little, and `guest` everything.
fn world() -> World {
    let mut world = World::new();
    let list = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    let permission = |user: &str, configure: &[&str], write: &[&str], read: &[&str]| Permission {
        user: user.into(),
        configure: list(configure),
        write: list(write),
        read: list(read),
    };
    for name in ["line", "nobody"] {
        world.settings.users.push(User { name: name.into(), password: name.into() });
    }
    world.settings.permissions = vec![
        permission("line", &["line.*"], &["amq.topic", "line.*"], &["line.*", "orders"]),
        permission("guest", &["*"], &["*"], &["*"]),
    ];
    let peer = world.connect();
    for frame in [declare("orders", DURABLE), declare("other", DURABLE), exchange("other", "fanout", 2)] {
        world.say(peer, &frame);
    }
    world.got(peer);
    world
}

fn said(world: &mut World, frame: &[u8]) -> String {
    let peer = world.connect_as("line");
    world.say(peer, frame);
    world.got(peer).join(" | ")
}

#[test]
fn what_is_granted_works() {
    let mut world = world();
    let peer = world.connect_as("line");
    for frame in [
        declare("line.1", DURABLE),
        declare("other", PASSIVE),
        exchange("line.x", "topic", 2),
        bind("line.1", "line.x", "#"),
        method(
            1,
            40,
            30,
            &[&[0, 0], &short("amq.topic"), &short("line.x"), &short("#"), &[0], &table(|_| {})],
        ),
        publish("line.x", "k", "a"),
        publish("amq.topic", "k", "b"),
        get("orders", true),
        get("line.1", true),
        consume("line.1", "c", 2),
        method(1, 50, 30, &[&[0, 0], &short("line.1"), &[0]]),
        method(1, 50, 40, &[&[0, 0], &short("line.1"), &[0]]),
        method(1, 40, 20, &[&[0, 0], &short("line.x"), &[0]]),
        consume("amq.rabbitmq.reply-to", "r", 2),
    ] {
        world.say(peer, &frame);
        let got = world.got(peer);
        assert!(!got.iter().any(|line| line.contains("close")), "{got:?}");
    }
}

#[test]
fn what_is_not_granted_is_403_and_changes_nothing() {
    let mut world = world();
    let dying = declare_with("line.2", DURABLE, |table| table.text("x-dead-letter-exchange", "other"));
    let alternate = table(|table| table.text("alternate-exchange", "other"));
    let alternate = method(1, 40, 10, &[&[0, 0], &short("line.y"), &short("direct"), &[2], &alternate]);
    let unbind = [&[0, 0][..], &short("orders"), &short("amq.topic"), &short("#"), &table(|_| {})].concat();
    for (frame, noun, id) in [
        (declare("mine", 0), "queue 'mine'", "50.10"),
        (dying, "exchange 'other'", "50.10"),
        (exchange("mine", "topic", 0), "exchange 'mine'", "40.10"),
        (alternate, "exchange 'other'", "40.10"),
        (bind("orders", "amq.topic", "#"), "queue 'orders'", "50.20"),
        (method(1, 50, 50, &[&unbind]), "queue 'orders'", "50.50"),
        (publish("", "orders", "x"), "exchange 'amq.default'", "60.40"),
        (publish("other", "", "x"), "exchange 'other'", "60.40"),
        (get("other", true), "queue 'other'", "60.70"),
        (consume("other", "c", 0), "queue 'other'", "60.20"),
        (method(1, 50, 30, &[&[0, 0], &short("other"), &[0]]), "queue 'other'", "50.30"),
        (method(1, 50, 40, &[&[0, 0], &short("orders"), &[0]]), "queue 'orders'", "50.40"),
        (method(1, 40, 20, &[&[0, 0], &short("other"), &[0]]), "exchange 'other'", "40.20"),
    ] {
        let text = format!("ACCESS_REFUSED - access to {noun} in vhost '/' refused for user 'line'");
        assert_eq!(said(&mut world, &frame), format!("1 channel.close 403 {text} ({id})"));
    }
    let peer = world.connect();
    for queue in ["orders", "other"] {
        world.say(peer, &declare(queue, PASSIVE));
        assert_eq!(world.got(peer), [format!("1 queue.declare-ok {queue} 0 0")]);
    }
}

#[test]
fn who_is_in_no_entry_opens_nothing_where_there_are_entries() {
    let mut world = world();
    let peer = world.open(true);
    for frame in [
        forebay::protocol::amqp::codec::GREETING.to_vec(),
        start_ok("PLAIN", b"\0nobody\0nobody", true),
        tune_ok(0, 0, 0),
        method(0, 10, 40, &[&short("/"), &[0, 0]]),
    ] {
        world.say(peer, &frame);
    }
    let text = "NOT_ALLOWED - access to vhost '/' refused for user 'nobody'";
    assert_eq!(world.got(peer).last().unwrap(), &format!("0 connection.close 530 {text} (10.40)"));
}
