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

/// What a table of texts in arrays looks like.
fn carbon(cc: &[&str], bcc: &[&str]) -> Vec<u8> {
    table(|table| {
        for (name, keys) in [("CC", cc), ("BCC", bcc)] {
            if !keys.is_empty() {
                table.array(name, |out| {
                    keys.iter().for_each(|key| {
                        out.push(b'S');
                        out.extend(long(key.as_bytes()));
                    });
                });
            }
        }
        table.int("n", 1);
    })
}

#[test]
fn cc_and_bcc_route_to_further_keys_and_bcc_is_told_nobody() {
    let mut world = World::new();
    let peer = world.connect();
    for queue in ["a", "b", "c"] {
        world.say(peer, &declare(queue, DURABLE));
        world.say(peer, &bind(queue, "amq.topic", &format!("{queue}.#")));
    }
    world.got(peer);
    for (exchange, key, cc, bcc) in [("", "a", "b", "c"), ("amq.topic", "a.x", "b.x", "c.x")] {
        let headers = carbon(&[cc, "nowhere", key], &[bcc]);
        world.say(peer, &publish_with(exchange, key, 0, (0x3000, &[&headers[..], &[2]].concat()), "x"));
        let seen = text(&[&carbon(&[cc, "nowhere", key], &[])[..], &[2]].concat());
        for queue in ["a", "b", "c"] {
            world.say(peer, &get(queue, true));
            let got = world.got(peer).join(" | ");
            assert!(got.ends_with(&format!("{exchange}:{key} (0 more) {{3000 {seen}}} x")), "{got}");
            world.say(peer, &get(queue, true));
            assert_eq!(world.got(peer), ["1 get-empty"], "{queue} got it twice");
        }
    }
}

#[test]
fn keys_besides_count_for_the_alternate_exchange_mandatory_and_transactions() {
    let mut world = World::new();
    let peer = with_queue(&mut world);
    let arguments = table(|table| table.text("alternate-exchange", "amq.fanout"));
    world.say(peer, &method(1, 40, 10, &[&[0, 0], &short("x"), &short("direct"), &[2], &arguments]));
    world.say(peer, &declare("lost", DURABLE));
    world.say(peer, &bind("lost", "amq.fanout", ""));
    world.say(peer, &bind("q", "x", "k"));
    world.got(peer);
    let list = [&carbon(&["k"], &[])[..], &[2]].concat();
    world.say(peer, &publish_with("x", "nobody", 1, (0x3000, &list), "m"));
    assert!(fetched(&mut world, peer).ends_with(" m"));
    world.say(peer, &get("lost", true));
    assert_eq!(world.got(peer), ["1 get-empty"]);
    world.say(peer, &method(1, 90, 10, &[]));
    let list = [&carbon(&[], &["k"])[..], &[2]].concat();
    world.say(peer, &publish_with("x", "nobody", 1, (0x3000, &list), "t"));
    world.say(peer, &method(1, 90, 20, &[]));
    assert_eq!(world.got(peer), ["1 tx.select-ok", "1 tx.commit-ok"]);
    let got = fetched(&mut world, peer);
    assert!(got.ends_with(" t") && !got.contains("BCC"), "{got}");
}

#[test]
fn cc_that_is_no_array_of_keys_is_406() {
    let wrong = [
        table(|table| table.text("CC", "k")),
        table(|table| table.array("BCC", |out| out.extend(b"I\0\0\0\x01"))),
        carbon(&["k"; 101], &[]),
    ];
    for headers in wrong {
        let mut world = World::new();
        let peer = with_queue(&mut world);
        world.say(peer, &publish_with("", "q", 0, (0x2000, &headers), "x"));
        let got = world.got(peer);
        assert!(got[0].starts_with("1 channel.close 406 PRECONDITION_FAILED - header '"), "{got:?}");
    }
}

#[test]
fn an_identity_is_remembered_over_a_restart() {
    let mut world = World::new();
    let peer = with_queue(&mut world);
    let message = |number: u8| {
        let list =
            [table(|table| table.bool("x-deduplication", true)), vec![2], short(&format!("id-{number}"))];
        publish_with("", "q", 0, (0x3080, &list.concat()), "x")
    };
    for number in 0..20 {
        world.say(peer, &message(number));
    }
    world.got(peer);
    let mut world = world.restart();
    let peer = world.connect();
    for number in 0..20 {
        world.say(peer, &message(number));
    }
    world.say(peer, &declare("q", PASSIVE));
    assert_eq!(world.got(peer), ["1 queue.declare-ok q 20 0"]);
}

/// A world with a confirming channel, `once` and `other` that ask for identities, and `all` that does not,
/// all bound to amq.fanout.
fn with_identities(world: &mut World) -> u64 {
    let peer = confirmed(world);
    for queue in ["once", "other"] {
        world.say(peer, &declare_with(queue, DURABLE, |table| table.bool("x-deduplication", true)));
    }
    world.say(peer, &declare("all", DURABLE));
    for queue in ["once", "other", "all"] {
        world.say(peer, &bind(queue, "amq.fanout", ""));
    }
    world.got(peer);
    peer
}

fn identified(exchange: &str, key: &str, id: &str) -> Vec<u8> {
    publish_with(exchange, key, 1, (0x1080, &[&[2][..], &short(id)].concat()), "x")
}

fn counts(world: &mut World, peer: u64) -> String {
    for queue in ["once", "other", "all"] {
        world.say(peer, &declare(queue, PASSIVE));
    }
    let got = world.got(peer);
    let numbers =
        got.iter().filter(|line| line.contains("declare-ok")).map(|line| line.split(' ').nth(3).unwrap());
    numbers.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_queue_that_asks_for_identities_takes_a_message_once_and_the_publisher_is_confirmed() {
    let mut world = World::new();
    let peer = with_identities(&mut world);
    for number in 1..=2 {
        world.say(peer, &identified("", "once", "1"));
        assert_eq!(world.got(peer), [format!("1 ack {number}")]);
    }
    assert_eq!(counts(&mut world, peer), "1 0 0");
    // What one queue knows is new to another.
    world.say(peer, &identified("amq.fanout", "", "1"));
    assert_eq!(counts(&mut world, peer), "1 1 1");
    world.say(peer, &identified("amq.fanout", "", "1"));
    assert_eq!(counts(&mut world, peer), "1 1 2");
    world.say(peer, &identified("amq.fanout", "", "2"));
    assert_eq!(counts(&mut world, peer), "2 2 3");
    // Without an identity nothing is known.
    world.say(peer, &[publish("", "once", "x"), publish("", "once", "x")].concat());
    assert_eq!(counts(&mut world, peer), "4 2 3");
    let mut world = world.restart();
    let peer = world.connect();
    world.say(peer, &identified("amq.fanout", "", "1"));
    world.say(peer, &identified("amq.fanout", "", "2"));
    assert_eq!(counts(&mut world, peer), "4 2 5");
    let other = declare("once", DURABLE);
    world.say(peer, &other);
    assert!(world.got(peer)[0].starts_with("1 channel.close 406"));
}

#[test]
fn a_repeated_message_is_confirmed_only_when_the_first_is_on_flash() {
    let mut world = World::new();
    let peer = with_identities(&mut world);
    world.bench.flash.medium.borrow_mut().hold_sync = true;
    world.say(peer, &identified("", "once", "1"));
    world.say(peer, &identified("", "once", "1"));
    assert!(world.got(peer).is_empty());
    world.bench.flash.medium.borrow_mut().hold_sync = false;
    assert_eq!(world.got(peer), ["1 ack 2 multiple"]);
}

#[test]
fn an_identity_is_forgotten_with_its_queue_and_after_the_window() {
    let mut world = World::new();
    let peer = with_identities(&mut world);
    world.say(peer, &identified("", "once", "1"));
    world.say(peer, &method(1, 50, 40, &[&[0, 0], &short("once"), &[0]]));
    world.say(peer, &declare_with("once", DURABLE, |table| table.bool("x-deduplication", true)));
    world.got(peer);
    world.say(peer, &identified("", "once", "1"));
    assert_eq!(counts(&mut world, peer), "1 0 0");
    world.wait(601_000);
    world.say(peer, &identified("", "once", "1"));
    assert_eq!(counts(&mut world, peer), "2 0 0");
}

#[test]
fn a_transaction_knows_its_own_messages_and_forgets_them_if_it_fails() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &declare_with("once", DURABLE, |table| table.bool("x-deduplication", true)));
    world.say(
        peer,
        &declare_with("full", DURABLE, |table| {
            table.int("x-max-length", 1);
            table.text("x-overflow", "reject-publish");
        }),
    );
    world.say(peer, &method(1, 90, 10, &[]));
    world.got(peer);
    let send = |world: &mut World, frames: &[Vec<u8>]| {
        world.say(peer, &frames.concat());
        world.say(peer, &method(1, 90, 20, &[]));
        world.got(peer).join(" | ")
    };
    let twice = [identified("", "once", "1"), identified("", "once", "1")];
    assert_eq!(send(&mut world, &twice), "1 tx.commit-ok");
    // The second to the full queue is found out only on the way.
    let frames = [identified("", "once", "2"), publish("", "full", "a"), publish("", "full", "b")];
    let failed = send(&mut world, &frames);
    assert!(failed.starts_with("1 channel.close") || failed.starts_with("0 connection.close"), "{failed}");
    let peer = world.connect();
    world.say(peer, &identified("", "once", "1"));
    world.say(peer, &declare("once", PASSIVE));
    assert_eq!(world.got(peer), ["1 queue.declare-ok once 1 0"]);
    world.say(peer, &identified("", "once", "2"));
    world.say(peer, &declare("once", PASSIVE));
    assert_eq!(world.got(peer), ["1 queue.declare-ok once 2 0"]);
}
