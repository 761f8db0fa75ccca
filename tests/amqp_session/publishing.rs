//! Publishing: contents in pieces, confirms, returns, properties, transactions.

use crate::support::*;

fn confirmed(world: &mut World) -> u64 {
    let peer = world.connect();
    world.say(peer, &method(1, 85, 10, &[&[0]]));
    assert_eq!(world.got(peer), ["1 confirm.select-ok"]);
    peer
}

fn with_queue(world: &mut World) -> u64 {
    let peer = world.connect();
    world.say(peer, &declare("q", DURABLE));
    assert_eq!(world.got(peer), ["1 queue.declare-ok q 0 0"]);
    peer
}

fn fetched(world: &mut World, peer: u64) -> String {
    world.say(peer, &get("q", true));
    world.got(peer).join(" | ")
}

#[test]
fn a_confirm_waits_for_the_flash_and_covers_what_came_with_it() {
    let mut world = World::new();
    let peer = confirmed(&mut world);
    world.say(peer, &declare("q", DURABLE));
    world.got(peer);
    world.bench.flash.medium.borrow_mut().hold_sync = true;
    world.say(peer, &[publish("", "q", "a"), publish("", "q", "b"), publish("", "q", "c")].concat());
    assert!(world.got(peer).is_empty());
    world.bench.flash.medium.borrow_mut().hold_sync = false;
    assert_eq!(world.got(peer), ["1 ack 3 multiple"]);
    world.say(peer, &publish("", "q", "d"));
    assert_eq!(world.got(peer), ["1 ack 4"]);
    let mut world = world.restart();
    let peer = world.connect();
    world.say(peer, &declare("q", PASSIVE));
    assert_eq!(world.got(peer), ["1 queue.declare-ok q 4 0"]);
}

#[test]
fn when_the_store_fails_what_waits_is_refused() {
    let mut world = World::new();
    let peer = confirmed(&mut world);
    world.say(peer, &declare("q", DURABLE));
    world.got(peer);
    world.bench.flash.medium.borrow_mut().hold_sync = true;
    world.say(peer, &[publish("", "q", "a"), publish("", "q", "b")].concat());
    world.settle();
    world.become_read_only();
    assert_eq!(world.said(peer), ["1 nack 2 multiple"]);
    assert_eq!(world.closed(peer), None);
}

#[test]
fn a_message_that_no_queue_takes_is_confirmed_and_comes_back_first_if_it_is_mandatory() {
    let mut world = World::new();
    let peer = confirmed(&mut world);
    world.say(peer, &publish_with("", "nowhere", 1, (0x1000, &[2]), "x"));
    world.say(peer, &publish_with("", "nowhere", 0, (0x1000, &[1]), "y"));
    assert_eq!(world.got(peer), ["1 return 312 NO_ROUTE :nowhere x", "1 ack 1", "1 ack 2"]);
    let text = "NOT_FOUND - no exchange 'none' in vhost '/'";
    world.say(peer, &publish("none", "k", "z"));
    assert_eq!(world.got(peer), [format!("1 channel.close 404 {text} (60.40)")]);
}

#[test]
fn a_body_may_come_in_any_pieces() {
    let text = "0123456789".repeat(50);
    let whole = publish("", "q", &text);
    let pieces = [
        publish_method("", "q", 0),
        header(500, 0x1000, &[2]),
        body(&text.as_bytes()[..200]),
        body(&text.as_bytes()[200..]),
    ]
    .concat();
    for (bytes, step) in [(&whole, 1), (&whole, 100), (&pieces, 7), (&pieces, 10_000)] {
        let mut world = World::new();
        let peer = with_queue(&mut world);
        for chunk in bytes.chunks(step) {
            world.say(peer, chunk);
        }
        assert_eq!(fetched(&mut world, peer), format!("1 get-ok 1 :q (0 more) {text}"), "{step}");
    }
}

#[test]
fn channels_may_send_their_contents_through_each_other() {
    let mut world = World::new();
    let peer = with_queue(&mut world);
    world.say(peer, &method(2, 20, 10, &[&[0]]));
    world.got(peer);
    let second = |mut frames: Vec<u8>| {
        frames[2] = 2;
        frames
    };
    for frame in [
        publish_method("", "q", 0),
        second(publish_method("", "q", 0)),
        second(header(2, 0x1000, &[2])),
        vec![8, 0, 0, 0, 0, 0, 0, 0xce],
        header(2, 0x1000, &[2]),
        second(body(b"bb")),
        body(b"aa"),
    ] {
        world.say(peer, &frame);
    }
    assert_eq!(fetched(&mut world, peer), "1 get-ok 1 :q (1 more) bb");
    assert_eq!(fetched(&mut world, peer), "1 get-ok 2 :q (0 more) aa");
}

#[test]
fn frames_of_a_content_out_of_their_order_are_505_and_too_much_body_501() {
    for (frames, expected) in [
        (
            vec![header(1, 0, &[])],
            "0 connection.close 505 UNEXPECTED_FRAME - a content header without a publish (0.0)",
        ),
        (vec![body(b"x")], "0 connection.close 505 UNEXPECTED_FRAME - a content body without a header (0.0)"),
        (
            vec![publish_method("", "q", 0), body(b"x")],
            "0 connection.close 505 UNEXPECTED_FRAME - a content body without a header (0.0)",
        ),
        (
            vec![publish_method("", "q", 0), qos(1, false)],
            "0 connection.close 505 UNEXPECTED_FRAME - expected the rest of a content, got a method (60.10)",
        ),
        (
            vec![publish_method("", "q", 0), header(1, 0, &[]), body(b"xy")],
            "0 connection.close 501 FRAME_ERROR - a content body of 2 bytes or more, 1 were announced (0.0)",
        ),
        (
            vec![publish_method("", "q", 0), header(1, 0x1000, &[])],
            "0 connection.close 502 SYNTAX_ERROR - a content header that makes no sense (0.0)",
        ),
        (vec![publish_method("", "q", 2)], "0 connection.close 540 NOT_IMPLEMENTED - immediate=true (60.40)"),
    ] {
        let mut world = World::new();
        let peer = with_queue(&mut world);
        for frame in frames {
            world.say(peer, &frame);
        }
        assert_eq!(world.got(peer), [expected]);
    }
}

#[test]
fn a_message_over_the_limit_is_406_from_its_header() {
    let mut world = World::new();
    let peer = with_queue(&mut world);
    world.say(peer, &publish_method("", "q", 0));
    world.say(peer, &header(901, 0x1000, &[2]));
    let text = "PRECONDITION_FAILED - message size 901 is larger than configured max size 900 (limits.max_message_bytes)";
    assert_eq!(world.got(peer), [format!("1 channel.close 406 {text} (0.0)")]);
    world.say(peer, &body(b"the rest of it"));
    assert!(world.got(peer).is_empty());
}

#[test]
fn one_connection_may_not_leave_many_large_messages_unfinished() {
    let mut world = World::new();
    let peer = world.connect();
    for channel in 2..=5u8 {
        world.say(peer, &method(channel.into(), 20, 10, &[&[0]]));
        let mut begun = [publish_method("", "q", 0), header(800, 0x1000, &[2])];
        begun.iter_mut().for_each(|frame| frame[2] = channel);
        world.say(peer, &begun.concat());
    }
    assert!(world.got(peer).last().unwrap().starts_with("0 connection.close 506 RESOURCE_ERROR"));
}

#[test]
fn all_properties_come_out_as_they_went_in() {
    let headers = table(|table| {
        for (kind, bytes) in [
            (b't', &[1][..]),
            (b'b', &[0xff]),
            (b'B', &[0xff]),
            (b's', &[0xff, 0xfe]),
            (b'u', &[0xff, 0xfe]),
            (b'I', &[0xff; 4]),
            (b'i', &[0xff; 4]),
            (b'l', &[0x80, 0, 0, 0, 0, 0, 0, 1]),
            (b'f', &[0x3f, 0x9d, 0xf3, 0xb6]),
            (b'd', &[0x3f, 0xf3, 0xbe, 0x76, 0xc8, 0xb4, 0x39, 0x58]),
            (b'D', &[2, 0, 0, 0, 7]),
            (b'S', b"text"),
            (b'S', b"\xff\xfe"),
            (b'x', b"bytes"),
            (b'V', b""),
            (b'T', &[0, 0, 0, 0, 0x65, 0, 0, 1]),
            (b'A', b"I\0\0\0\x01S\0\0\0\x01a"),
            (b'F', b"\x01nI\0\0\0\x01"),
        ] {
            table.field(format!("h{}", char::from(kind)).as_bytes(), kind, bytes);
        }
    });
    let all = [
        &short("text/plain")[..],
        &short("gzip"),
        &headers,
        &[2, 5],
        &short("corr"),
        &short("reply"),
        &short("60000"),
        &short("id-1"),
        &[0, 0, 0, 0, 0, 0, 0, 9],
        &short("type"),
        &short("guest"),
        &short("app"),
        &short("cluster"),
    ]
    .concat();
    let without_headers = [&short("text/plain")[..], &short("gzip"), &[1]].concat();
    for (flags, list) in [
        (0xfffcu16, &all),
        (0xd000, &without_headers),
        (0, &Vec::new()),
        (0x1000, &vec![1]),
        (0x2000, &table(|_| {})),
    ] {
        let mut world = World::new();
        let peer = with_queue(&mut world);
        world.say(peer, &publish_with("", "q", 0, (flags, list), "x"));
        let expected = format!("1 get-ok 1 :q (0 more) {{{flags:04x} {}}} x", text(list));
        assert_eq!(fetched(&mut world, peer), expected);
    }
}

#[test]
fn a_user_id_must_be_that_of_the_user() {
    let mut world = World::new();
    let peer = with_queue(&mut world);
    world.say(peer, &publish_with("", "q", 0, (0x10, &short("other")), "x"));
    let text = "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'";
    assert_eq!(world.got(peer), [format!("1 channel.close 406 {text} (60.40)")]);
}

#[test]
fn messages_expire_and_a_bad_expiration_is_406() {
    let mut world = World::new();
    let peer = with_queue(&mut world);
    world.say(peer, &publish_with("", "q", 0, (0x100, &short("1000")), "short"));
    world.say(peer, &publish_with("", "q", 0, (0x100, &short("5000")), "long"));
    world.wait(1500);
    assert!(fetched(&mut world, peer).ends_with(" long"));
    world.say(peer, &publish_with("", "q", 0, (0x100, &short("soon")), "x"));
    let text = "PRECONDITION_FAILED - invalid expiration 'soon': milliseconds as text";
    assert_eq!(world.got(peer), [format!("1 channel.close 406 {text} (60.40)")]);
}

#[test]
fn x_delay_holds_a_message_back() {
    let mut world = World::new();
    let peer = with_queue(&mut world);
    let headers = table(|table| table.int("x-delay", 1000));
    world.say(peer, &publish_with("", "q", 0, (0x2000, &headers), "later"));
    world.say(peer, &publish("", "q", "now"));
    assert!(fetched(&mut world, peer).ends_with(" now"));
    world.wait(900);
    assert_eq!(fetched(&mut world, peer), "1 get-empty");
    world.wait(200);
    assert!(fetched(&mut world, peer).ends_with(" later"));
}

#[test]
fn a_duplicate_is_confirmed_and_not_delivered_twice() {
    let mut world = World::new();
    let peer = confirmed(&mut world);
    world.say(peer, &declare("q", DURABLE));
    let list = [table(|table| table.bool("x-deduplication", true)), short("id-1")].concat();
    let message = publish_with("", "q", 0, (0x2080, &list), "x");
    world.say(peer, &[message.clone(), message].concat());
    assert_eq!(world.got(peer), ["1 ack 2 multiple", "1 queue.declare-ok q 0 0"]);
    world.say(peer, &declare("q", PASSIVE));
    assert_eq!(world.got(peer), ["1 queue.declare-ok q 1 0"]);
}

#[test]
fn higher_priorities_come_first() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &declare_with("q", DURABLE, |table| table.int("x-max-priority", 5)));
    for priority in [1u8, 5, 3] {
        world.say(peer, &publish_with("", "q", 0, (0x1800, &[2, priority]), &format!("p{priority}")));
    }
    world.got(peer);
    for priority in [5, 3, 1] {
        assert!(fetched(&mut world, peer).ends_with(&format!(" p{priority}")));
    }
}

#[test]
fn a_transaction_is_done_at_its_commit_or_not_at_all() {
    let mut world = World::new();
    let (peer, other) = (with_queue(&mut world), world.connect());
    world.say(peer, &publish("", "q", "first"));
    world.say(peer, &method(1, 90, 10, &[]));
    world.say(peer, &consume("q", "c", 0));
    assert_eq!(world.got(peer), ["1 tx.select-ok", "1 basic.consume-ok c", "1 deliver c 1 :q first"]);
    world.say(
        peer,
        &[publish("", "q", "second"), publish_with("", "none", 1, (0x1000, &[2]), "lost")].concat(),
    );
    world.say(peer, &ack(1, false));
    assert!(world.got(peer).is_empty());
    world.say(peer, &method(1, 90, 30, &[]));
    assert_eq!(world.got(peer), ["1 tx.rollback-ok"]);
    world.say(peer, &ack(1, false));
    world.say(peer, &publish("", "q", "third"));
    world.say(peer, &publish_with("", "none", 1, (0x1000, &[2]), "lost"));
    world.say(peer, &method(1, 90, 20, &[]));
    let expected = ["1 return 312 NO_ROUTE :none lost", "1 tx.commit-ok", "1 deliver c 2 :q third"];
    assert_eq!(world.got(peer), expected);
    world.lose(peer);
    world.say(other, &get("q", true));
    assert_eq!(world.got(other), ["1 get-ok 1 again :q (0 more) {3000 \\x00\\x00\\x00\\x1a\\x10x-delivery-countl\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01\\x02} third"]);
}

#[test]
fn transactions_and_confirms_do_not_go_together() {
    let mut world = World::new();
    let peer = confirmed(&mut world);
    world.say(peer, &method(1, 90, 10, &[]));
    let text = "PRECONDITION_FAILED - cannot switch from confirm to tx mode";
    assert_eq!(world.got(peer), [format!("1 channel.close 406 {text} (90.10)")]);
    let peer = world.connect();
    world.say(peer, &method(1, 90, 20, &[]));
    let text = "PRECONDITION_FAILED - channel is not transactional";
    assert_eq!(world.got(peer), [format!("1 channel.close 406 {text} (90.20)")]);
    let peer = world.connect();
    world.say(peer, &method(1, 90, 10, &[]));
    world.say(peer, &method(1, 85, 10, &[&[0]]));
    let text = "PRECONDITION_FAILED - cannot switch from tx to confirm mode";
    assert_eq!(world.got(peer)[1], format!("1 channel.close 406 {text} (85.10)"));
}
