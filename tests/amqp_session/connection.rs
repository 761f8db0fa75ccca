//! Introduction, agreement, channels, signs of life, ends.

use crate::support::*;
use forebay::protocol::amqp::codec::GREETING;
use forebay::protocol::Close;

fn greeted(world: &mut World, is_local: bool) -> u64 {
    let peer = world.open(is_local);
    world.say(peer, &GREETING);
    assert_eq!(world.got(peer), ["0 connection.start"]);
    peer
}

fn tuned(world: &mut World, tune: &[u8]) -> u64 {
    let peer = greeted(world, true);
    world.say(peer, &start_ok("PLAIN", b"\0guest\0guest", true));
    assert_eq!(world.got(peer), ["0 connection.tune 20 8192 60"]);
    world.say(peer, tune);
    peer
}

fn vhost(name: &str) -> Vec<u8> {
    method(0, 10, 40, &[&short(name), &[0, 0]])
}

#[test]
fn a_client_introduces_itself_and_leaves() {
    let mut world = World::new();
    let peer = tuned(&mut world, &tune_ok(20, 4096, 0));
    assert!(!world.session(peer).is_established());
    world.say(peer, &vhost("/"));
    assert_eq!(world.got(peer), ["0 connection.open-ok"]);
    assert!(world.session(peer).is_established());
    world.say(peer, &method(0, 10, 50, &[&[0, 200], &short("bye"), &[0; 4]]));
    assert_eq!(world.got(peer), ["0 connection.close-ok"]);
    assert_eq!(world.closed(peer), Some(&Close::Normal));
}

#[test]
fn who_speaks_another_protocol_is_told_which_is_spoken() {
    for greeting in [&b"AMQP\0\x01\0\0"[..], b"AMQP\x01\x01\x08\0", b"GET / HTTP/1.1"] {
        let mut world = World::new();
        let peer = world.open(true);
        world.say(peer, greeting);
        assert_eq!(world.got(peer), ["greeting"]);
        assert!(matches!(world.closed(peer), Some(Close::Protocol(_))));
    }
}

#[test]
fn a_login_fails_with_403_if_the_client_knows_that_and_else_by_the_end() {
    let mut world = World::new();
    let peer = greeted(&mut world, true);
    world.say(peer, &start_ok("PLAIN", b"\0guest\0wrong", true));
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";
    assert_eq!(world.got(peer), [format!("0 connection.close 403 {text} (10.11)")]);
    assert_eq!(world.closed(peer), None);
    world.say(peer, &method(0, 10, 51, &[]));
    assert!(matches!(world.closed(peer), Some(Close::Protocol(_))));
    let peer = greeted(&mut world, true);
    world.say(peer, &start_ok("PLAIN", b"\0guest\0wrong", false));
    assert!(world.got(peer).is_empty());
    assert!(matches!(world.closed(peer), Some(Close::Protocol(_))));
}

#[test]
fn guest_is_refused_from_elsewhere() {
    let mut world = World::new();
    let peer = greeted(&mut world, false);
    world.say(peer, &start_ok("PLAIN", b"\0guest\0guest", true));
    let got = world.got(peer);
    assert!(got[0].starts_with("0 connection.close 403 ACCESS_REFUSED - user 'guest' can only"), "{got:?}");
}

#[test]
fn an_unknown_mechanism_is_503_and_an_unknown_vhost_530() {
    let mut world = World::new();
    let peer = greeted(&mut world, true);
    world.say(peer, &start_ok("EXTERNAL", b"", true));
    assert!(world.got(peer)[0].starts_with("0 connection.close 503 COMMAND_INVALID"));
    let peer = tuned(&mut world, &tune_ok(0, 0, 0));
    world.say(peer, &vhost("nowhere"));
    assert_eq!(world.got(peer), ["0 connection.close 530 NOT_ALLOWED - vhost nowhere not found (10.40)"]);
    let peer = tuned(&mut world, &tune_ok(0, 0, 0));
    world.say(peer, &vhost("plant"));
    assert_eq!(world.got(peer), ["0 connection.open-ok"]);
}

#[test]
fn nobody_may_agree_to_more_than_was_offered_or_less_than_the_least() {
    for tune in [tune_ok(20, 4095, 0), tune_ok(20, 8193, 0), tune_ok(21, 4096, 0)] {
        let mut world = World::new();
        let peer = tuned(&mut world, &tune);
        let got = world.got(peer);
        assert!(got[0].starts_with("0 connection.close 530 NOT_ALLOWED - negotiated"), "{got:?}");
    }
}

#[test]
fn a_frame_over_4096_bytes_before_the_agreement_ends_the_connection() {
    let mut world = World::new();
    let peer = greeted(&mut world, true);
    world.say(peer, &[1, 0, 0, 0, 0, 0x10, 0]);
    let text = "FRAME_ERROR - a frame is larger than the negotiated frame_max";
    assert_eq!(world.got(peer), [format!("0 connection.close 501 {text} (0.0)")]);
    assert!(matches!(world.closed(peer), Some(Close::Protocol(_))));
}

#[test]
fn a_method_out_of_its_order_is_503() {
    let mut world = World::new();
    let peer = greeted(&mut world, true);
    world.say(peer, &vhost("/"));
    assert!(world.got(peer)[0].starts_with("0 connection.close 503 COMMAND_INVALID"));
}

#[test]
fn channels_are_opened_used_and_closed() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &method(20, 20, 10, &[&[0]]));
    world.say(peer, &method(20, 20, 40, &[&[0, 200], &short(""), &[0; 4]]));
    world.say(peer, &method(20, 20, 10, &[&[0]]));
    assert_eq!(world.got(peer), ["20 channel.open-ok", "20 channel.close-ok", "20 channel.open-ok"]);
}

#[test]
fn a_channel_that_is_not_open_or_open_twice_is_504_and_one_too_many_530() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &method(2, 60, 10, &[&[0; 7]]));
    assert_eq!(world.got(peer), ["0 connection.close 504 CHANNEL_ERROR - channel 2 is not open (60.10)"]);
    let peer = world.connect();
    world.say(peer, &method(1, 20, 10, &[&[0]]));
    assert_eq!(
        world.got(peer),
        ["0 connection.close 504 CHANNEL_ERROR - second 'channel.open' seen (20.10)"]
    );
    let peer = world.connect();
    world.say(peer, &method(21, 20, 10, &[&[0]]));
    let text = "NOT_ALLOWED - channel 21 is over the negotiated channel_max (20)";
    assert_eq!(world.got(peer), [format!("0 connection.close 530 {text} (20.10)")]);
}

#[test]
fn after_an_error_a_channel_ignores_everything_until_it_is_closed() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &declare("missing", PASSIVE));
    world.say(peer, &declare("q", 0));
    world.say(peer, &publish("", "q", "lost"));
    let text = "NOT_FOUND - no queue 'missing' in vhost '/'";
    assert_eq!(world.got(peer), [format!("1 channel.close 404 {text} (50.10)")]);
    world.say(peer, &method(1, 20, 41, &[]));
    world.say(peer, &method(1, 20, 10, &[&[0]]));
    world.say(peer, &declare("q", 0));
    assert_eq!(world.got(peer), ["1 channel.open-ok", "1 queue.declare-ok q 0 0"]);
}

#[test]
fn unknown_methods_are_540_and_malformed_ones_502() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &method(1, 60, 60, &[]));
    assert!(world.got(peer)[0].starts_with("0 connection.close 540 NOT_IMPLEMENTED"));
    let peer = world.connect();
    world.say(peer, &method(1, 50, 10, &[&[0, 0], &[9], b"cut"]));
    assert!(world.got(peer)[0].starts_with("0 connection.close 502 SYNTAX_ERROR"));
}

#[test]
fn heartbeats_go_both_ways() {
    let mut world = World::new();
    let peer = tuned(&mut world, &tune_ok(0, 0, 10));
    world.say(peer, &vhost("/"));
    assert_eq!(world.got(peer), ["0 connection.open-ok"]);
    world.wait(5000);
    world.wait(5000);
    assert_eq!(world.got(peer), ["heartbeat", "heartbeat"]);
    world.say(peer, &[8, 0, 0, 0, 0, 0, 0, 0xce]);
    world.wait(19_000);
    assert_eq!(world.closed(peer), None);
    world.wait(1000);
    assert_eq!(world.closed(peer), Some(&Close::Silent));
}

#[test]
fn without_heartbeats_a_client_may_be_silent_for_ever() {
    let mut world = World::new();
    let peer = world.connect();
    world.wait(86_400_000);
    assert!(world.got(peer).is_empty());
    assert_eq!(world.closed(peer), None);
}

#[test]
fn who_does_not_answer_a_close_is_cut_off() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &method(1, 60, 60, &[]));
    world.wait(4999);
    assert_eq!(world.closed(peer), None);
    world.wait(1);
    assert!(matches!(world.closed(peer), Some(Close::Protocol(_))));
}

#[test]
fn a_publisher_is_told_when_the_store_is_short_and_when_no_more() {
    let mut world = World::new();
    let (publisher, other) = (world.connect(), world.connect());
    world.set_short(true);
    world.say(publisher, &publish("", "q", "x"));
    world.say(other, &qos(1, false));
    assert_eq!(world.got(publisher), ["0 connection.blocked the store is short of room"]);
    assert_eq!(world.got(other), ["1 basic.qos-ok"]);
    world.wait(1000);
    world.set_short(false);
    world.wait(1000);
    assert_eq!(world.got(publisher), ["0 connection.unblocked"]);
}

#[test]
fn a_new_secret_is_taken_if_it_is_right() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &method(0, 10, 70, &[&long(b"guest"), &short("fresh")]));
    assert_eq!(world.got(peer), ["0 connection.update-secret-ok"]);
    world.say(peer, &method(0, 10, 70, &[&long(b"other"), &short("fresh")]));
    assert!(world.got(peer)[0].starts_with("0 connection.close 403"));
}

#[test]
fn flow_stops_and_starts_the_deliveries_of_a_channel() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &declare("q", 0));
    world.say(peer, &consume("q", "c", 2));
    world.say(peer, &method(1, 20, 20, &[&[0]]));
    world.say(peer, &publish("", "q", "x"));
    assert_eq!(world.got(peer), ["1 queue.declare-ok q 0 0", "1 basic.consume-ok c", "1 channel.flow-ok"]);
    world.say(peer, &method(1, 20, 20, &[&[1]]));
    assert_eq!(world.got(peer), ["1 channel.flow-ok active", "1 deliver c 1 :q x"]);
}
