//! Consuming: prefetch, acknowledgements, dead letters, streams, replies.

use crate::support::*;

fn with(world: &mut World, frames: &[Vec<u8>]) -> u64 {
    let peer = world.connect();
    for frame in frames {
        world.say(peer, frame);
    }
    world.got(peer);
    peer
}

fn publish_all(world: &mut World, peer: u64, texts: &[&str]) {
    for text in texts {
        world.say(peer, &publish("", "q", text));
    }
}

/// The bodies in some lines.
fn bodies(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .filter(|line| line.contains("deliver"))
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect()
}

#[test]
fn prefetch_limits_what_a_consumer_has_unacknowledged() {
    let mut world = World::new();
    let peer = with(&mut world, &[declare("q", DURABLE), qos(2, false), consume("q", "c", 0)]);
    publish_all(&mut world, peer, &["a", "b", "c", "d"]);
    assert_eq!(world.got(peer), ["1 deliver c 1 :q a", "1 deliver c 2 :q b"]);
    world.say(peer, &ack(1, false));
    assert_eq!(world.got(peer), ["1 deliver c 3 :q c"]);
    world.say(peer, &ack(3, true));
    assert_eq!(world.got(peer), ["1 deliver c 4 :q d"]);
}

#[test]
fn a_global_prefetch_is_shared_by_the_consumers_of_a_channel() {
    let mut world = World::new();
    let frames = [
        declare("q", DURABLE),
        declare("r", DURABLE),
        qos(2, true),
        consume("q", "c", 0),
        consume("r", "d", 0),
    ];
    let peer = with(&mut world, &frames);
    for text in ["a", "b"] {
        world.say(peer, &[publish("", "q", text), publish("", "r", text)].concat());
    }
    assert_eq!(world.got(peer).len(), 2);
    world.say(peer, &ack(0, true));
    assert_eq!(world.got(peer).len(), 2);
    world.say(peer, &ack(0, true));
    assert!(world.got(peer).is_empty());
}

#[test]
fn who_wants_no_acknowledgement_gets_everything() {
    let mut world = World::new();
    let peer = with(&mut world, &[declare("q", DURABLE), qos(1, false), consume("q", "c", 2)]);
    publish_all(&mut world, peer, &["a", "b"]);
    assert_eq!(world.got(peer), ["1 deliver c 1 :q a", "1 deliver c 2 :q b"]);
    world.say(peer, &ack(1, false));
    let text = "PRECONDITION_FAILED - unknown delivery tag 1";
    assert_eq!(world.got(peer), [format!("1 channel.close 406 {text} (60.80)")]);
}

#[test]
fn an_acknowledgement_of_nothing_is_406() {
    for frame in [ack(1, false), ack(7, true), nack(2, false, true), reject(9, false), ack(0, false)] {
        let mut world = World::new();
        let peer = with(&mut world, &[declare("q", 0), consume("q", "c", 0)]);
        world.say(peer, &frame);
        assert!(
            world.got(peer)[0].starts_with("1 channel.close 406 PRECONDITION_FAILED - unknown delivery tag")
        );
    }
    let mut world = World::new();
    let peer = with(&mut world, &[declare("q", 0), consume("q", "c", 0)]);
    world.say(peer, &ack(0, true));
    assert!(world.got(peer).is_empty());
}

#[test]
fn what_is_given_back_comes_again_at_its_place() {
    let mut world = World::new();
    let peer = with(&mut world, &[declare("q", DURABLE), qos(2, false), consume("q", "c", 0)]);
    publish_all(&mut world, peer, &["a", "b", "c"]);
    world.got(peer);
    world.say(peer, &nack(1, false, true));
    let got = world.got(peer);
    assert!(got[0].starts_with("1 deliver c 3 again :q") && got[0].ends_with(" a"), "{got:?}");
    world.say(peer, &reject(2, true));
    assert!(world.got(peer)[0].ends_with(" b"));
    world.say(peer, &method(1, 60, 110, &[&[1]]));
    let got = world.got(peer);
    assert_eq!(got[0], "1 basic.recover-ok");
    assert_eq!(bodies(&got), ["a", "b"]);
    world.say(peer, &method(1, 60, 110, &[&[0]]));
    assert!(world.got(peer)[0].starts_with("0 connection.close 540 NOT_IMPLEMENTED"));
}

#[test]
fn what_a_channel_or_connection_had_goes_back() {
    let mut world = World::new();
    let peer = with(&mut world, &[declare("q", DURABLE), consume("q", "c", 0)]);
    publish_all(&mut world, peer, &["a", "b"]);
    assert_eq!(world.got(peer).len(), 2);
    world.say(peer, &method(1, 20, 40, &[&[0, 200], &short(""), &[0; 4]]));
    let other = world.connect();
    world.say(other, &consume("q", "d", 0));
    assert_eq!(bodies(&world.got(other)), ["a", "b"]);
    world.lose(other);
    let third = world.connect();
    world.say(third, &get("q", false));
    assert!(world.got(third)[0].starts_with("1 get-ok 1 again :q (1 more)"));
}

#[test]
fn a_cancelled_consumer_may_still_acknowledge_what_it_got() {
    let mut world = World::new();
    let peer = with(&mut world, &[declare("q", DURABLE), consume("q", "c", 0)]);
    publish_all(&mut world, peer, &["a"]);
    world.got(peer);
    world.say(peer, &cancel("c"));
    publish_all(&mut world, peer, &["b"]);
    assert_eq!(world.got(peer), ["1 basic.cancel-ok c"]);
    world.say(peer, &ack(1, false));
    world.say(peer, &declare("q", PASSIVE));
    assert_eq!(world.got(peer), ["1 queue.declare-ok q 1 0"]);
    world.say(peer, &cancel("c"));
    assert_eq!(world.got(peer), ["1 basic.cancel-ok c"]);
    world.say(peer, &consume("q", "c", 0));
    assert_eq!(world.got(peer), ["1 basic.consume-ok c", "1 deliver c 2 :q b"]);
}

#[test]
fn a_tag_in_use_is_530_and_none_gets_one() {
    let mut world = World::new();
    let peer = with(&mut world, &[declare("q", 0)]);
    world.say(peer, &consume("q", "", 0));
    assert!(world.got(peer)[0].starts_with("1 basic.consume-ok amq.ctag-"));
    world.say(peer, &consume("q", "c", 0));
    world.say(peer, &consume("q", "c", 0));
    let text = "NOT_ALLOWED - attempt to reuse consumer tag 'c'";
    assert_eq!(world.got(peer)[1], format!("0 connection.close 530 {text} (60.20)"));
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let mut world = World::new();
    let (peer, other) = (with(&mut world, &[declare("q", 0), consume("q", "c", 4)]), world.connect());
    world.say(other, &consume("q", "d", 0));
    let text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";
    assert_eq!(world.got(other), [format!("1 channel.close 403 {text} (60.20)")]);
    world.say(peer, &cancel("c"));
    world.got(peer);
    let third = world.connect();
    world.say(third, &consume("q", "d", 0));
    assert_eq!(world.got(third), ["1 basic.consume-ok d"]);
}

#[test]
fn messages_are_shared_out_and_higher_consumers_come_first() {
    let mut world = World::new();
    let peer = with(&mut world, &[declare("q", 0), qos(1, false)]);
    world.say(peer, &consume_with("q", "low", 0, |table| table.int("x-priority", -1)));
    world.say(peer, &consume_with("q", "high", 0, |table| table.int("x-priority", 5)));
    world.got(peer);
    publish_all(&mut world, peer, &["a"]);
    assert_eq!(world.got(peer), ["1 deliver high 1 :q a"]);
    publish_all(&mut world, peer, &["b"]);
    assert_eq!(world.got(peer), ["1 deliver low 2 :q b"]);
}

#[test]
fn one_active_consumer_at_a_time() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &declare_with("q", 0, |table| table.bool("x-single-active-consumer", true)));
    world.say(peer, &consume("q", "one", 2));
    world.say(peer, &consume("q", "two", 2));
    world.got(peer);
    publish_all(&mut world, peer, &["a", "b"]);
    assert_eq!(world.got(peer), ["1 deliver one 1 :q a", "1 deliver one 2 :q b"]);
    world.say(peer, &cancel("one"));
    publish_all(&mut world, peer, &["c"]);
    assert_eq!(world.got(peer), ["1 basic.cancel-ok one", "1 deliver two 3 :q c"]);
}

#[test]
fn get_takes_one_message_with_or_without_acknowledgement() {
    let mut world = World::new();
    let peer = with(&mut world, &[declare("q", DURABLE)]);
    world.say(peer, &get("q", false));
    assert_eq!(world.got(peer), ["1 get-empty"]);
    publish_all(&mut world, peer, &["a", "b"]);
    world.say(peer, &get("q", false));
    assert_eq!(world.got(peer), ["1 get-ok 1 :q (1 more) a"]);
    world.say(peer, &get("q", true));
    assert_eq!(world.got(peer), ["1 get-ok 2 :q (0 more) b"]);
    world.say(peer, &nack(1, false, true));
    world.say(peer, &get("q", false));
    assert!(world.got(peer)[0].starts_with("1 get-ok 3 again :q (0 more)"));
}

#[test]
fn a_get_waits_for_the_flash_like_any_delivery() {
    let mut world = World::new();
    let peer = with(&mut world, &[declare("q", DURABLE)]);
    world.bench.flash.medium.borrow_mut().hold_sync = true;
    publish_all(&mut world, peer, &["a"]);
    world.say(peer, &get("q", false));
    assert!(world.got(peer).is_empty());
    world.bench.flash.medium.borrow_mut().hold_sync = false;
    assert_eq!(world.got(peer), ["1 get-ok 1 :q (0 more) a"]);
}

#[test]
fn a_large_body_is_delivered_in_frames_the_client_takes() {
    let mut world = World::new();
    let peer = with(&mut world, &[declare("q", DURABLE), consume("q", "c", 2)]);
    let text = "x".repeat(700);
    world.say(peer, &publish("", "q", &text));
    assert_eq!(world.got(peer), [format!("1 deliver c 1 :q {text}")]);
}

#[test]
fn a_rejected_message_goes_to_the_dead_letter_exchange() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &declare("dead", DURABLE));
    world.say(peer, &declare_mortal("q", "dead", |_| {}));
    world.say(peer, &consume("q", "c", 0));
    world.got(peer);
    publish_all(&mut world, peer, &["a"]);
    world.got(peer);
    world.say(peer, &reject(1, false));
    world.say(peer, &get("dead", true));
    let got = world.got(peer);
    assert!(got[0].starts_with("1 get-ok 2 :dead (0 more)") && got[0].ends_with(" a"), "{got:?}");
}

#[test]
fn a_consumer_may_ask_for_what_it_gives_back_to_come_later() {
    let mut world = World::new();
    let peer = with(&mut world, &[declare("q", DURABLE)]);
    world.say(
        peer,
        &consume_with("q", "c", 0, |table| {
            table.int("x-delayed-retry-min", 1000);
            table.int("x-delayed-retry-max", 1500);
        }),
    );
    publish_all(&mut world, peer, &["a"]);
    world.got(peer);
    world.say(peer, &nack(1, false, true));
    world.wait(900);
    assert!(world.got(peer).is_empty());
    world.wait(100);
    assert_eq!(bodies(&world.got(peer)), ["a"]);
    world.say(peer, &nack(2, false, true));
    world.wait(1400);
    assert!(world.got(peer).is_empty());
    world.wait(100);
    assert_eq!(bodies(&world.got(peer)), ["a"]);
}

#[test]
fn a_stream_is_read_again_by_everybody_from_where_they_want() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &declare_with("q", DURABLE, |table| table.text("x-queue-type", "stream")));
    publish_all(&mut world, peer, &["a", "b"]);
    world.wait(1000);
    let since = world.bench.now.0;
    publish_all(&mut world, peer, &["c"]);
    world.got(peer);
    let texts = |world: &mut World, fill: &dyn Fn(&mut forebay::protocol::amqp::codec::TableWriter<'_>)| {
        let reader = world.connect();
        world.say(reader, &consume_with("q", "r", 0, |table| fill(table)));
        bodies(&world.got(reader)).join(" ")
    };
    assert_eq!(texts(&mut world, &|table| table.text("x-stream-offset", "first")), "a b c");
    assert_eq!(texts(&mut world, &|table| table.text("x-stream-offset", "first")), "a b c");
    assert_eq!(texts(&mut world, &|table| table.int("x-stream-offset", 1)), "b c");
    assert_eq!(texts(&mut world, &|table| table.text("x-stream-offset", "last")), "c");
    assert_eq!(texts(&mut world, &|table| table.text("x-stream-offset", "next")), "");
    assert_eq!(texts(&mut world, &|_| {}), "");
    let at = (since / 1000).to_be_bytes();
    assert_eq!(texts(&mut world, &|table| table.field(b"x-stream-offset", b'T', &at)), "c");
    assert_eq!(texts(&mut world, &|table| table.text("x-stream-offset", "1h")), "a b c");
    world.say(peer, &get("q", true));
    assert!(world.got(peer)[0].starts_with("0 connection.close 540"));
}

#[test]
fn a_delivery_of_a_stream_tells_its_offset() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &declare_with("q", DURABLE, |table| table.text("x-queue-type", "stream")));
    world.say(peer, &consume_with("q", "r", 0, |table| table.text("x-stream-offset", "first")));
    publish_all(&mut world, peer, &["a"]);
    let headers = text(&table(|table| table.int("x-stream-offset", 0)));
    assert_eq!(world.got(peer)[2], format!("1 deliver r 1 :q {{3000 {headers}\\x02}} a"));
}

#[test]
fn replies_come_directly() {
    let mut world = World::new();
    let (client, server) = (world.connect(), with(&mut world, &[declare("q", 0), consume("q", "s", 2)]));
    let reply_to = short("amq.rabbitmq.reply-to");
    world.say(client, &publish_with("", "q", 0, (0x200, &reply_to), "early"));
    let text = "PRECONDITION_FAILED - fast reply consumer does not exist";
    assert_eq!(world.got(client), [format!("1 channel.close 406 {text} (60.40)")]);
    let client = world.connect();
    world.say(client, &consume("amq.rabbitmq.reply-to", "r", 2));
    world.say(
        client,
        &publish_with("", "q", 0, (0x600, &[short("7"), reply_to.clone()].concat()), "question"),
    );
    assert_eq!(world.got(client), ["1 basic.consume-ok r"]);
    let asked = world.got(server).remove(0);
    let place = asked.find("amq.rabbitmq.reply-to.").expect("a queue of its own");
    let name = &asked[place..place + "amq.rabbitmq.reply-to.".len() + 22];
    world.say(server, &publish_with("", name, 0, (0x400, &short("7")), "answer"));
    assert_eq!(world.got(client), [format!("1 deliver r 1 :{name} {{0400 \\x017}} answer")]);
    world.say(client, &consume("amq.rabbitmq.reply-to", "s", 0));
    assert!(world.got(client)[0].starts_with("1 channel.close 406"));
}

#[test]
fn a_stream_begins_at_offset_0_whatever_had_its_place_before() {
    let mut world = World::new();
    let peer = world.connect();
    let stream = declare_with("q", DURABLE, |table| table.text("x-queue-type", "stream"));
    let delete = method(1, 50, 40, &[&[0, 0], &short("q"), &[0]]);
    for before in [declare("q", DURABLE), declare("q", 0), stream.clone()] {
        world.say(peer, &before);
        publish_all(&mut world, peer, &["old", "older", "oldest"]);
        world.say(peer, &delete);
        world.got(peer);
    }
    world.say(peer, &stream);
    publish_all(&mut world, peer, &["a", "b"]);
    world.wait(2000);
    let since = world.bench.now.0 / 1000;
    publish_all(&mut world, peer, &["c"]);
    world.got(peer);
    let read = |world: &mut World, fill: &dyn Fn(&mut forebay::protocol::amqp::codec::TableWriter<'_>)| {
        let reader = world.connect();
        world.say(reader, &consume_with("q", "r", 0, |table| fill(table)));
        let bytes = world.bytes(reader);
        let offset_of = |payload: &[u8]| {
            let content = forebay::protocol::amqp::codec::ContentHeader::parse(payload).unwrap();
            content.properties.headers().get("x-stream-offset").unwrap().int().unwrap()
        };
        let told = contents(&bytes)
            .iter()
            .map(|(payload, body)| format!("{}{body}", offset_of(payload)))
            .collect::<Vec<_>>();
        told.join(" ")
    };
    for _ in 0..2 {
        assert_eq!(read(&mut world, &|table| table.text("x-stream-offset", "first")), "0a 1b 2c");
        assert_eq!(read(&mut world, &|table| table.int("x-stream-offset", 0)), "0a 1b 2c");
        assert_eq!(read(&mut world, &|table| table.int("x-stream-offset", 1)), "1b 2c");
        assert_eq!(read(&mut world, &|table| table.text("x-stream-offset", "last")), "2c");
        assert_eq!(read(&mut world, &|table| table.text("x-stream-offset", "next")), "");
        let at = since.to_be_bytes();
        assert_eq!(read(&mut world, &|table| table.field(b"x-stream-offset", b'T', &at)), "2c");
        world = world.restart();
    }
}

#[test]
fn a_delivery_that_is_never_settled_ends_its_channel_and_comes_again() {
    let mut world = World::new();
    world.settings.consumer_timeout_ms = 10_000;
    let (peer, other) = (with(&mut world, &[declare("q", DURABLE), consume("q", "c", 0)]), world.connect());
    world.wait(9_000);
    publish_all(&mut world, peer, &["a", "b"]);
    assert_eq!(bodies(&world.got(peer)), ["a", "b"]);
    world.say(peer, &ack(1, false));
    // It was not there yet when it was looked for late ones the first time.
    world.wait(1_500);
    world.wait(8_000);
    assert!(world.got(peer).is_empty());
    world.wait(2_000);
    let got = world.got(peer);
    let text = "1 channel.close 406 PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out.";
    assert!(got.len() == 1 && got[0].starts_with(text), "{got:?}");
    assert_eq!(world.closed(peer), None);
    world.say(other, &get("q", false));
    let got = world.got(other);
    assert!(got[0].starts_with("1 get-ok 1 again :q (0 more)") && got[0].ends_with(" b"), "{got:?}");
}

#[test]
fn who_settles_in_time_is_left_alone() {
    let mut world = World::new();
    world.settings.consumer_timeout_ms = 10_000;
    let peer = with(&mut world, &[declare("q", DURABLE), consume("q", "c", 0)]);
    for number in 1..=10 {
        publish_all(&mut world, peer, &["a"]);
        assert_eq!(bodies(&world.got(peer)), ["a"], "{number}");
        world.wait(9_000);
        world.say(peer, &ack(number, false));
    }
    assert!(world.got(peer).is_empty());
}
