//! Exchanges, queues and bindings, and the errors about them.

use crate::support::*;

const EXCHANGE_DURABLE: u8 = 2;
const EXCHANGE_AUTO_DELETE: u8 = 4;
const EXCHANGE_INTERNAL: u8 = 8;

fn one(world: &mut World, peer: u64, frame: &[u8]) -> String {
    world.say(peer, frame);
    world.got(peer).join(" | ")
}

/// What a new connection gets to hear of a frame that fails.
fn failure(world: &mut World, frame: &[u8]) -> String {
    let peer = world.connect();
    one(world, peer, frame)
}

fn delete_exchange(name: &str, if_unused: bool) -> Vec<u8> {
    method(1, 40, 20, &[&[0, 0], &short(name), &[u8::from(if_unused)]])
}

fn delete(queue: &str, bits: u8) -> Vec<u8> {
    method(1, 50, 40, &[&[0, 0], &short(queue), &[bits]])
}

fn purge(queue: &str) -> Vec<u8> {
    method(1, 50, 30, &[&[0, 0], &short(queue), &[0]])
}

fn unbind(queue: &str, exchange: &str, key: &str) -> Vec<u8> {
    method(1, 50, 50, &[&[0, 0], &short(queue), &short(exchange), &short(key), &table(|_| {})])
}

fn exchange_bind(id: u16, destination: &str, source: &str, key: &str) -> Vec<u8> {
    let names = [short(destination), short(source), short(key)].concat();
    method(1, 40, id, &[&[0, 0], &names, &[0], &table(|_| {})])
}

#[test]
fn exchanges_of_every_type_are_declared_found_and_deleted() {
    let mut world = World::new();
    let peer = world.connect();
    for kind in ["direct", "fanout", "topic", "headers"] {
        assert_eq!(one(&mut world, peer, &exchange(kind, kind, EXCHANGE_DURABLE)), "1 exchange.declare-ok");
        assert_eq!(one(&mut world, peer, &exchange(kind, "", PASSIVE)), "1 exchange.declare-ok");
        assert_eq!(one(&mut world, peer, &delete_exchange(kind, false)), "1 exchange.delete-ok");
    }
    assert_eq!(one(&mut world, peer, &delete_exchange("direct", false)), "1 exchange.delete-ok");
    for name in ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"] {
        assert_eq!(one(&mut world, peer, &exchange(name, "", PASSIVE)), "1 exchange.declare-ok");
    }
}

#[test]
fn a_delayed_exchange_is_of_the_type_it_names() {
    let mut world = World::new();
    let peer = world.connect();
    let delayed = |inner: &str| {
        let arguments = table(|table| table.text("x-delayed-type", inner));
        method(1, 40, 10, &[&[0, 0], &short("later"), &short("x-delayed-message"), &[2], &arguments])
    };
    assert_eq!(one(&mut world, peer, &delayed("topic")), "1 exchange.declare-ok");
    assert_eq!(one(&mut world, peer, &exchange("later", "topic", 2)), "1 exchange.declare-ok");
    let text = "PRECONDITION_FAILED - invalid argument, 'x-delayed-type' must be an existing exchange type";
    let plain = exchange("plain", "x-delayed-message", 2);
    assert_eq!(one(&mut world, peer, &plain), format!("1 channel.close 406 {text} (40.10)"));
}

#[test]
fn errors_about_exchanges_are_to_the_letter() {
    let mut world = World::new();
    let peer = world.connect();
    one(&mut world, peer, &exchange("there", "topic", EXCHANGE_DURABLE));
    for (frame, expected) in [
        (
            exchange("", "direct", 2),
            "403 ACCESS_REFUSED - operation not permitted on the default exchange (40.10)",
        ),
        (
            exchange("amq.new", "direct", 2),
            "403 ACCESS_REFUSED - exchange name 'amq.new' contains reserved prefix 'amq.*' (40.10)",
        ),
        (exchange("none", "", PASSIVE), "404 NOT_FOUND - no exchange 'none' in vhost '/' (40.10)"),
        (
            exchange("there", "direct", 2),
            "406 PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'there' in vhost '/' (40.10)",
        ),
        (
            exchange("there", "topic", 0),
            "406 PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'there' in vhost '/' (40.10)",
        ),
        (bind("none", "there", ""), "404 NOT_FOUND - no queue 'none' in vhost '/' (50.20)"),
        (exchange_bind(30, "there", "none", ""), "404 NOT_FOUND - no exchange 'none' in vhost '/' (40.30)"),
        (exchange_bind(30, "none", "there", ""), "404 NOT_FOUND - no exchange 'none' in vhost '/' (40.30)"),
        (
            delete_exchange("amq.topic", false),
            "403 ACCESS_REFUSED - operation not permitted on exchange 'amq.topic' in vhost '/' (40.20)",
        ),
    ] {
        assert_eq!(failure(&mut world, &frame), format!("1 channel.close {expected}"));
    }
    let text = "COMMAND_INVALID - unknown exchange type 'odd'";
    assert_eq!(
        failure(&mut world, &exchange("x", "odd", 0)),
        format!("0 connection.close 503 {text} (40.10)")
    );
}

#[test]
fn an_internal_exchange_takes_messages_from_exchanges_only() {
    let mut world = World::new();
    let peer = world.connect();
    for frame in [
        exchange("inner", "fanout", EXCHANGE_INTERNAL),
        exchange("outer", "fanout", 0),
        exchange_bind(30, "inner", "outer", ""),
        declare("q", 0),
        bind("q", "inner", ""),
        publish("outer", "k", "through"),
        get("q", true),
    ] {
        world.say(peer, &frame);
    }
    assert_eq!(world.got(peer).last().unwrap(), "1 get-ok 1 outer:k (0 more) through");
    let text = "ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '/'";
    assert_eq!(
        one(&mut world, peer, &publish("inner", "k", "directly")),
        format!("1 channel.close 403 {text} (60.40)")
    );
}

#[test]
fn an_exchange_that_is_used_is_not_deleted_if_that_was_asked() {
    let mut world = World::new();
    let peer = world.connect();
    for frame in [exchange("x", "direct", 0), declare("q", 0), bind("q", "x", "k")] {
        world.say(peer, &frame);
    }
    world.got(peer);
    let text = "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use";
    assert_eq!(
        failure(&mut world, &delete_exchange("x", true)),
        format!("1 channel.close 406 {text} (40.20)")
    );
    assert_eq!(one(&mut world, peer, &unbind("q", "x", "k")), "1 queue.unbind-ok");
    assert_eq!(one(&mut world, peer, &delete_exchange("x", true)), "1 exchange.delete-ok");
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let mut world = World::new();
    let peer = world.connect();
    for frame in [exchange("x", "direct", EXCHANGE_AUTO_DELETE), declare("q", 0), bind("q", "x", "k")] {
        world.say(peer, &frame);
    }
    world.got(peer);
    assert_eq!(one(&mut world, peer, &unbind("q", "x", "k")), "1 queue.unbind-ok");
    assert!(one(&mut world, peer, &exchange("x", "", PASSIVE)).starts_with("1 channel.close 404"));
}

#[test]
fn what_matches_no_binding_goes_to_the_alternate_exchange() {
    let mut world = World::new();
    let peer = world.connect();
    let arguments = table(|table| table.text("alternate-exchange", "lost"));
    for frame in [
        method(1, 40, 10, &[&[0, 0], &short("x"), &short("direct"), &[0], &arguments]),
        exchange("lost", "fanout", 0),
        declare("found", 0),
        bind("found", "lost", ""),
        publish("x", "nobody", "a"),
        get("found", true),
    ] {
        world.say(peer, &frame);
    }
    assert_eq!(world.got(peer).last().unwrap(), "1 get-ok 1 x:nobody (0 more) a");
}

#[test]
fn queues_are_declared_counted_purged_and_deleted() {
    let mut world = World::new();
    let peer = world.connect();
    assert_eq!(one(&mut world, peer, &declare("q", DURABLE)), "1 queue.declare-ok q 0 0");
    for text in ["a", "b", "c"] {
        world.say(peer, &publish("", "q", text));
    }
    assert_eq!(one(&mut world, peer, &declare("q", DURABLE)), "1 queue.declare-ok q 3 0");
    assert_eq!(one(&mut world, peer, &declare("q", PASSIVE)), "1 queue.declare-ok q 3 0");
    assert_eq!(one(&mut world, peer, &purge("q")), "1 queue.purge-ok 3");
    assert_eq!(one(&mut world, peer, &purge("q")), "1 queue.purge-ok 0");
    world.say(peer, &publish("", "q", "d"));
    assert_eq!(one(&mut world, peer, &delete("q", 0)), "1 queue.delete-ok 1");
    assert_eq!(one(&mut world, peer, &delete("q", 0)), "1 queue.delete-ok 0");
}

#[test]
fn a_large_queue_is_purged_in_steps_before_anything_else_is_done_on_the_connection() {
    let mut world = World::large();
    let (peer, other) = (world.connect(), world.connect());
    one(&mut world, peer, &declare("q", 0));
    let count = 20_000;
    let ten = publish_with("", "q", 0, (0x1000, &[1]), "x").repeat(10);
    (0..count / 10).for_each(|_| world.say(peer, &ten));
    world.say(peer, &[purge("q"), declare("q", PASSIVE), publish("", "q", "last")].concat());
    // Others have their turn meanwhile.
    let before = one(&mut world, other, &declare("q", PASSIVE));
    let left: u32 = before.split(' ').nth(3).unwrap().parse().unwrap();
    assert!(left > 0 && left < count, "{before}");
    let mut turns = 0;
    while world.session(peer).is_unfinished() {
        world.say(peer, &[]);
        turns += 1;
    }
    assert!((2..10).contains(&turns), "{turns}");
    assert_eq!(world.got(peer), [&format!("1 queue.purge-ok {count}"), "1 queue.declare-ok q 0 0"]);
    assert_eq!(one(&mut world, other, &get("q", true)), "1 get-ok 1 :q (0 more) last");
}

#[test]
fn a_queue_that_goes_while_it_is_purged_is_purged() {
    let mut world = World::large();
    let (peer, other) = (world.connect(), world.connect());
    one(&mut world, peer, &declare("q", 0));
    let ten = publish_with("", "q", 0, (0x1000, &[1]), "x").repeat(10);
    (0..2000).for_each(|_| world.say(peer, &ten));
    world.say(peer, &purge("q"));
    assert!(one(&mut world, other, &delete("q", 0)).starts_with("1 queue.delete-ok 1"));
    world.say(peer, &[]);
    assert!(world.got(peer)[0].starts_with("1 queue.purge-ok 8192"));
    assert!(!world.session(peer).is_unfinished());
}

#[test]
fn a_durable_queue_is_answered_when_it_is_on_flash_and_later_answers_wait_behind() {
    let mut world = World::new();
    let peer = world.connect();
    world.bench.flash.medium.borrow_mut().hold_sync = true;
    world.say(peer, &declare("kept", DURABLE));
    world.say(peer, &declare("not", 0));
    world.say(peer, &consume("not", "c", 2));
    world.say(peer, &publish_with("", "not", 0, (0x1000, &[1]), "x"));
    assert!(world.got(peer).is_empty());
    assert!(world.session(peer).awaits_durable());
    world.bench.flash.medium.borrow_mut().hold_sync = false;
    let expected = [
        "1 queue.declare-ok kept 0 0",
        "1 queue.declare-ok not 0 0",
        "1 basic.consume-ok c",
        "1 deliver c 1 :not {1000 \\x01} x",
    ];
    assert_eq!(world.got(peer), expected);
    let mut world = world.restart();
    let peer = world.connect();
    // What is there waits for nothing.
    world.bench.flash.medium.borrow_mut().hold_sync = true;
    assert_eq!(one(&mut world, peer, &declare("kept", DURABLE)), "1 queue.declare-ok kept 0 0");
    assert_eq!(
        one(&mut world, peer, &exchange("amq.topic", "topic", EXCHANGE_DURABLE)),
        "1 exchange.declare-ok"
    );
    assert!(one(&mut world, peer, &declare("not", PASSIVE)).starts_with("1 channel.close 404"));
}

#[test]
fn a_queue_without_a_name_gets_one_that_an_empty_name_then_means() {
    let mut world = World::new();
    let peer = world.connect();
    let named = one(&mut world, peer, &declare("", EXCLUSIVE));
    assert!(named.starts_with("1 queue.declare-ok amq.gen-") && named.ends_with(" 0 0"), "{named}");
    world.say(peer, &bind("", "amq.direct", ""));
    let name = named.split(' ').nth(2).unwrap();
    world.say(peer, &publish("amq.direct", name, "x"));
    assert_eq!(
        one(&mut world, peer, &get("", true)),
        format!("1 queue.bind-ok | 1 get-ok 1 amq.direct:{name} (0 more) x")
    );
    let other = one(&mut world, peer, &declare("", 0));
    assert_ne!(named, other);
    let text = "NOT_FOUND - no previously declared queue";
    assert_eq!(failure(&mut world, &purge("")), format!("1 channel.close 404 {text} (50.30)"));
}

#[test]
fn errors_about_queues_are_to_the_letter() {
    let mut world = World::new();
    let peer = world.connect();
    one(&mut world, peer, &declare("there", DURABLE));
    one(&mut world, peer, &declare("mine", EXCLUSIVE));
    world.say(peer, &publish("", "there", "x"));
    let locked = "405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be \
                  originally declared on another connection or the exclusive property value does not match that of \
                  the original declaration.";
    for (frame, expected) in [
        (declare("none", PASSIVE), "404 NOT_FOUND - no queue 'none' in vhost '/' (50.10)".to_string()),
        (
            declare("amq.mine", 0),
            "403 ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*' (50.10)".into(),
        ),
        (
            declare("there", 0),
            "406 PRECONDITION_FAILED - inequivalent arguments for queue 'there' in vhost '/' (50.10)".into(),
        ),
        (declare("mine", EXCLUSIVE), format!("{locked} (50.10)")),
        (declare("mine", PASSIVE), format!("{locked} (50.10)")),
        (consume("mine", "", 0), format!("{locked} (60.20)")),
        (get("mine", true), format!("{locked} (60.70)")),
        (purge("mine"), format!("{locked} (50.30)")),
        (delete("mine", 0), format!("{locked} (50.40)")),
        (bind("mine", "amq.direct", ""), format!("{locked} (50.20)")),
        (delete("there", 2), "406 PRECONDITION_FAILED - queue 'there' in vhost '/' not empty (50.40)".into()),
        (consume("none", "", 0), "404 NOT_FOUND - no queue 'none' in vhost '/' (60.20)".into()),
        (
            bind("there", "", "k"),
            "403 ACCESS_REFUSED - operation not permitted on the default exchange (50.20)".into(),
        ),
    ] {
        assert_eq!(failure(&mut world, &frame), format!("1 channel.close {expected}"));
    }
}

#[test]
fn arguments_that_make_no_sense_are_406() {
    let mut world = World::new();
    type Fill = fn(&mut forebay::protocol::amqp::codec::TableWriter<'_>);
    let table: [(&str, Fill); 8] = [
        ("x-message-ttl", |table| table.int("x-message-ttl", -1)),
        ("x-message-ttl", |table| table.text("x-message-ttl", "soon")),
        ("x-expires", |table| table.int("x-expires", 0)),
        ("x-overflow", |table| table.text("x-overflow", "explode")),
        ("x-queue-type", |table| table.text("x-queue-type", "odd")),
        ("x-dead-letter-routing-key", |table| table.text("x-dead-letter-routing-key", "k")),
        ("x-single-active-consumer", |table| table.int("x-single-active-consumer", 1)),
        ("x-max-length", |table| table.bool("x-max-length", true)),
    ];
    for (name, fill) in table {
        let said = failure(&mut world, &declare_with("q", DURABLE, fill));
        let expected =
            format!("1 channel.close 406 PRECONDITION_FAILED - invalid arg '{name}' for queue 'q'");
        assert!(said.starts_with(&expected), "{said}");
    }
    let quorum = declare_with("q", 0, |table| table.text("x-queue-type", "quorum"));
    let text = "PRECONDITION_FAILED - invalid property 'non-durable' for queue 'q' in vhost '/'";
    assert_eq!(failure(&mut world, &quorum), format!("1 channel.close 406 {text} (50.10)"));
}

#[test]
fn an_exclusive_queue_goes_with_its_connection() {
    let mut world = World::new();
    let (peer, other) = (world.connect(), world.connect());
    one(&mut world, peer, &declare("mine", EXCLUSIVE));
    world.lose(peer);
    assert!(one(&mut world, other, &declare("mine", PASSIVE)).starts_with("1 channel.close 404"));
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let mut world = World::new();
    let peer = world.connect();
    for frame in [declare("q", AUTO_DELETE), consume("q", "a", 0), consume("q", "b", 0), cancel("a")] {
        world.say(peer, &frame);
    }
    world.got(peer);
    assert_eq!(one(&mut world, peer, &declare("q", PASSIVE)), "1 queue.declare-ok q 0 1");
    world.say(peer, &cancel("b"));
    let said = one(&mut world, peer, &declare("q", PASSIVE));
    assert!(said.starts_with("1 basic.cancel-ok b | 1 channel.close 404"), "{said}");
}

#[test]
fn deleting_a_queue_cancels_its_consumers_those_of_who_deletes_too() {
    let mut world = World::new();
    let (peer, other) = (world.connect(), world.connect());
    world.say(peer, &declare("q", 0));
    world.say(peer, &consume("q", "mine", 0));
    world.say(other, &consume("q", "his", 0));
    world.got(peer);
    world.got(other);
    let text = "PRECONDITION_FAILED - queue 'q' in vhost '/' in use";
    assert_eq!(failure(&mut world, &delete("q", 1)), format!("1 channel.close 406 {text} (50.40)"));
    assert_eq!(one(&mut world, peer, &delete("q", 0)), "1 basic.cancel mine | 1 queue.delete-ok 0");
    assert_eq!(world.got(other), ["1 basic.cancel his"]);
}

#[test]
fn a_queue_that_nobody_uses_expires() {
    let mut world = World::new();
    let peer = world.connect();
    one(&mut world, peer, &declare_with("q", 0, |table| table.int("x-expires", 1000)));
    world.wait(900);
    assert_eq!(one(&mut world, peer, &get("q", true)), "1 get-empty");
    world.wait(900);
    one(&mut world, peer, &consume("q", "c", 0));
    world.wait(5000);
    assert_eq!(one(&mut world, peer, &cancel("c")), "1 basic.cancel-ok c");
    world.wait(900);
    assert_eq!(one(&mut world, peer, &declare("q", PASSIVE)), "1 queue.declare-ok q 0 0");
    world.wait(1100);
    assert!(one(&mut world, peer, &declare("q", PASSIVE)).starts_with("1 channel.close 404"));
}

#[test]
fn a_queue_with_a_most_length_drops_its_oldest_or_refuses() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &declare_with("drops", 0, |table| table.int("x-max-length", 2)));
    world.say(
        peer,
        &declare_with("refuses", 0, |table| {
            table.int("x-max-length", 2);
            table.text("x-overflow", "reject-publish");
        }),
    );
    world.say(peer, &method(1, 85, 10, &[&[0]]));
    world.got(peer);
    for text in ["a", "b", "c"] {
        world.say(peer, &publish("", "drops", text));
    }
    assert_eq!(world.got(peer), ["1 ack 3 multiple"]);
    assert_eq!(one(&mut world, peer, &get("drops", true)), "1 get-ok 1 :drops (1 more) b");
    let all = ["a", "b", "c"].map(|text| publish("", "refuses", text)).concat();
    world.say(peer, &all);
    // What is refused is told first.
    assert_eq!(world.got(peer), ["1 nack 6", "1 ack 6 multiple"]);
}

#[test]
fn a_headers_exchange_matches_headers_of_any_type() {
    let mut world = World::new();
    let peer = world.connect();
    for queue in ["all", "any"] {
        world.say(peer, &declare(queue, 0));
        let binding = bind_with(queue, "amq.headers", "", |table| {
            table.text("x-match", queue);
            table.text("kind", "report");
            table.field(b"page", b'I', &[0, 0, 0, 7]);
            table.bool("final", true);
        });
        assert!(one(&mut world, peer, &binding).ends_with("1 queue.bind-ok"));
    }
    let publish = |fill: &dyn Fn(&mut forebay::protocol::amqp::codec::TableWriter<'_>), text: &str| {
        publish_with("amq.headers", "", 0, (0x2000, &table(|table| fill(table))), text)
    };
    // A number is the same in any width.
    world.say(
        peer,
        &publish(
            &|table| {
                table.int("page", 7);
                table.text("kind", "report");
                table.bool("final", true);
            },
            "both",
        ),
    );
    world.say(peer, &publish(&|table| table.int("page", 7), "one"));
    world.say(peer, &publish(&|table| table.text("page", "7"), "none"));
    assert_eq!(one(&mut world, peer, &declare("all", PASSIVE)), "1 queue.declare-ok all 1 0");
    assert_eq!(one(&mut world, peer, &declare("any", PASSIVE)), "1 queue.declare-ok any 2 0");
    let odd = bind_with("all", "amq.headers", "", |table| table.text("x-match", "most"));
    assert!(
        one(&mut world, peer, &odd).starts_with("1 channel.close 406 PRECONDITION_FAILED - invalid x-match")
    );
}
