//! Dead letters: why, how often and where from, as the headers tell it; and limits that make them.

use crate::support::*;
use forebay::protocol::amqp::codec::{ContentHeader, TableWriter};

/// A queue whose dead letters go to `dead`, with more arguments.
fn dying(world: &mut World, peer: u64, fill: impl FnOnce(&mut TableWriter<'_>)) {
    world.say(peer, &declare("dead", DURABLE));
    world.say(peer, &declare_mortal("q", "dead", fill));
    world.got(peer);
}

fn count(world: &mut World, peer: u64, queue: &str) -> String {
    world.say(peer, &declare(queue, PASSIVE));
    let got = world.got(peer);
    got.last().and_then(|line| line.split(' ').nth(3)).expect("a count").to_string()
}

/// Fetches a message: its body, and the story of its deaths, the latest first.
fn story(world: &mut World, peer: u64, queue: &str) -> (String, Vec<String>) {
    world.say(peer, &get(queue, true));
    let bytes = world.bytes(peer);
    let parts = contents(&bytes);
    let [(payload, body)] = &parts[..] else { panic!("{:?}", words(&bytes)) };
    let content = ContentHeader::parse(payload).unwrap();
    let headers = content.properties.headers();
    let deaths = headers.get("x-death").map_or(Vec::new(), |field| deaths(field.bytes));
    for which in ["first", "last"] {
        let told = |what: &str| {
            let field = headers.get(&format!("x-{which}-death-{what}"));
            field.and_then(|field| field.text()).map(str::to_string)
        };
        let death = if which == "first" { deaths.last() } else { deaths.first() };
        let expected = death.map(|death| death.split(' ').take(2).collect::<Vec<_>>().join(" "));
        let told = told("queue").zip(told("reason")).map(|(queue, reason)| format!("{queue} {reason}"));
        // Without circles the oldest entry is the first death.
        assert_eq!(told, expected, "{which}");
    }
    (body.clone(), deaths)
}

#[test]
fn what_a_queue_has_no_place_for_dies_of_maxlen() {
    let mut world = World::new();
    let peer = world.connect();
    dying(&mut world, peer, |table| table.int("x-max-length", 2));
    for text in ["a", "b", "c", "d"] {
        world.say(peer, &publish("", "q", text));
    }
    assert_eq!(count(&mut world, peer, "q"), "2");
    for text in ["a", "b"] {
        let expected = (text.to_string(), vec!["q maxlen 1 :q".to_string()]);
        assert_eq!(story(&mut world, peer, "dead"), expected);
    }
    assert_eq!(story(&mut world, peer, "q"), ("c".to_string(), vec![]));
}

#[test]
fn bytes_are_a_limit_too() {
    let mut world = World::new();
    let peer = world.connect();
    dying(&mut world, peer, |table| table.int("x-max-length-bytes", 700));
    for text in ["a", "b", "c"] {
        world.say(peer, &publish("", "q", &text.repeat(300)));
    }
    assert_eq!(count(&mut world, peer, "q"), "2");
    let (body, deaths) = story(&mut world, peer, "dead");
    assert_eq!((&body[..1], deaths), ("a", vec!["q maxlen 1 :q".to_string()]));
    // The newest stays even if it is over the limit alone.
    world.say(peer, &publish("", "q", &"d".repeat(720)));
    assert_eq!(count(&mut world, peer, "q"), "1");
    assert_eq!(story(&mut world, peer, "q").0, "d".repeat(720));
}

#[test]
fn what_was_delivered_too_often_dies_of_the_delivery_limit() {
    let mut world = World::new();
    let peer = world.connect();
    dying(&mut world, peer, |table| table.int("x-delivery-limit", 2));
    world.say(peer, &publish("", "q", "a"));
    world.say(peer, &consume("q", "c", 0));
    assert_eq!(world.got(peer).len(), 2);
    world.say(peer, &nack(1, false, true));
    let got = world.got(peer);
    assert!(got[0].starts_with("1 deliver c 2 again"), "{got:?}");
    assert!(got[0].contains("x-delivery-count"), "{got:?}");
    world.say(peer, &nack(2, false, true));
    assert!(world.got(peer).is_empty());
    assert_eq!(story(&mut world, peer, "dead"), ("a".into(), vec!["q delivery_limit 1 :q".into()]));
}

#[test]
fn a_delivery_limit_is_remembered_over_a_restart() {
    let mut world = World::new();
    let peer = world.connect();
    dying(&mut world, peer, |table| table.int("x-delivery-limit", 2));
    world.say(peer, &publish("", "q", "a"));
    world.say(peer, &consume("q", "c", 0));
    world.got(peer);
    world.say(peer, &nack(1, false, true));
    world.got(peer);
    world.wait(1000);
    let mut world = world.restart();
    let peer = world.connect();
    world.say(peer, &consume("q", "c", 0));
    assert!(world.got(peer)[1].starts_with("1 deliver c 1 again"));
    world.say(peer, &reject(1, true));
    assert!(world.got(peer).is_empty());
    assert_eq!(story(&mut world, peer, "dead").1, ["q delivery_limit 1 :q"]);
}

#[test]
fn the_time_to_live_of_a_queue_holds_for_all_in_it_and_the_shorter_one_counts() {
    let mut world = World::new();
    let peer = world.connect();
    dying(&mut world, peer, |table| table.int("x-message-ttl", 1000));
    world.say(peer, &publish("", "q", "queue"));
    world.say(peer, &publish_with("", "q", 0, (0x1100, &[&[2][..], &short("5000")].concat()), "longer"));
    world.say(peer, &publish_with("", "q", 0, (0x1100, &[&[2][..], &short("200")].concat()), "shorter"));
    world.wait(300);
    assert_eq!(count(&mut world, peer, "q"), "2");
    assert_eq!(story(&mut world, peer, "dead"), ("shorter".into(), vec!["q expired 1 :q ttl 200".into()]));
    world.wait(600);
    assert_eq!(count(&mut world, peer, "q"), "2");
    world.wait(200);
    assert_eq!(count(&mut world, peer, "q"), "0");
    assert_eq!(story(&mut world, peer, "dead"), ("queue".into(), vec!["q expired 1 :q".into()]));
    assert_eq!(story(&mut world, peer, "dead"), ("longer".into(), vec!["q expired 1 :q ttl 5000".into()]));
}

#[test]
fn a_time_to_live_of_a_queue_goes_on_over_a_restart() {
    let mut world = World::new();
    let peer = world.connect();
    dying(&mut world, peer, |table| table.int("x-message-ttl", 1000));
    world.say(peer, &publish("", "q", "a"));
    world.wait(600);
    let mut world = world.restart();
    let peer = world.connect();
    assert_eq!(count(&mut world, peer, "q"), "1");
    world.wait(500);
    assert_eq!(story(&mut world, peer, "dead"), ("a".into(), vec!["q expired 1 :q".into()]));
}

#[test]
fn a_queue_without_time_hands_over_only_what_somebody_takes_at_once() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &declare_with("q", DURABLE, |table| table.int("x-message-ttl", 0)));
    world.say(peer, &publish("", "q", "nobody"));
    world.wait(10);
    world.say(peer, &consume("q", "c", 2));
    world.say(peer, &publish("", "q", "somebody"));
    let got = world.got(peer);
    assert_eq!(got[1..], ["1 basic.consume-ok c", "1 deliver c 1 :q somebody"]);
}

#[test]
fn deaths_of_the_same_kind_are_counted_and_others_added() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &declare_mortal("again", "q", |table| table.int("x-message-ttl", 100)));
    world.say(peer, &declare_mortal("q", "again", |_| {}));
    world.say(peer, &publish("", "q", "a"));
    world.got(peer);
    let mut number = 0;
    for round in 1..=3 {
        world.say(peer, &get("q", false));
        world.got(peer);
        number += 1;
        world.say(peer, &reject(number, false));
        world.wait(150);
        assert_eq!(count(&mut world, peer, "q"), "1", "round {round}");
    }
    world.say(peer, &get("q", true));
    let bytes = world.bytes(peer);
    let parts = contents(&bytes);
    let content = ContentHeader::parse(&parts[0].0).unwrap().properties;
    let told = deaths(content.headers().get("x-death").unwrap().bytes);
    assert_eq!(told, ["again expired 3 :again", "q rejected 3 :q"]);
    assert_eq!(content.headers().get("x-first-death-queue").unwrap().text(), Some("q"));
    assert_eq!(content.headers().get("x-last-death-reason").unwrap().text(), Some("expired"));
}

#[test]
fn a_dead_letter_queue_keeps_its_own_limit() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(peer, &declare_with("dead", DURABLE, |table| table.int("x-max-length", 2)));
    world.say(peer, &declare_mortal("q", "dead", |table| table.int("x-message-ttl", 100)));
    for text in ["a", "b", "c", "d", "e"] {
        world.say(peer, &publish("", "q", text));
    }
    world.wait(150);
    assert_eq!(count(&mut world, peer, "q"), "0");
    assert_eq!(count(&mut world, peer, "dead"), "2");
    assert_eq!(story(&mut world, peer, "dead").0, "d");
    assert_eq!(story(&mut world, peer, "dead").0, "e");
}

#[test]
fn a_stream_lets_go_of_what_is_too_old_or_too_much() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(
        peer,
        &declare_with("q", DURABLE, |table| {
            table.text("x-queue-type", "stream");
            table.text("x-max-age", "1m");
        }),
    );
    world.say(
        peer,
        &declare_with("small", DURABLE, |table| {
            table.text("x-queue-type", "stream");
            table.int("x-max-length-bytes", 700);
        }),
    );
    world.say(peer, &publish("", "q", "old"));
    world.wait(40_000);
    world.say(peer, &publish("", "q", "young"));
    for text in ["a", "b", "c"] {
        world.say(peer, &publish("", "small", &text.repeat(300)));
    }
    assert_eq!(count(&mut world, peer, "q"), "2");
    assert_eq!(count(&mut world, peer, "small"), "2");
    world.wait(21_000);
    assert_eq!(count(&mut world, peer, "q"), "1");
    world.say(peer, &consume_with("q", "c", 0, |table| table.text("x-stream-offset", "first")));
    let got = world.got(peer);
    assert!(got[1].ends_with(" young") && got.len() == 2, "{got:?}");
    let mut world = world.restart();
    world.wait(40_000);
    let peer = world.connect();
    assert_eq!(count(&mut world, peer, "q"), "0");
}

#[test]
fn reject_publish_dlx_refuses_the_publisher_and_keeps_the_message_as_a_dead_letter() {
    let mut world = World::new();
    let peer = world.connect();
    dying(&mut world, peer, |table| {
        table.int("x-max-length", 1);
        table.text("x-overflow", "reject-publish-dlx");
    });
    world.say(peer, &bind("q", "amq.topic", "a.*"));
    world.say(peer, &method(1, 85, 10, &[&[0]]));
    world.got(peer);
    world.say(peer, &publish("", "q", "kept"));
    assert_eq!(world.got(peer), ["1 ack 1"]);
    let headers = table(|table| table.text("h", "v"));
    let list = [&headers[..], &[2], &short("60000")].concat();
    world.say(peer, &publish_with("amq.topic", "a.b", 0, (0x3100, &list), "refused"));
    assert_eq!(world.got(peer), ["1 nack 2"]);
    assert_eq!(count(&mut world, peer, "q"), "1");
    let mut world = world.restart();
    let peer = world.connect();
    assert_eq!(count(&mut world, peer, "dead"), "1");
    let told = vec!["q maxlen 1 amq.topic:a.b ttl 60000".to_string()];
    assert_eq!(story(&mut world, peer, "dead"), ("refused".into(), told));
    assert_eq!(story(&mut world, peer, "q").0, "kept");
}

#[test]
fn reject_publish_refuses_and_keeps_nothing() {
    let mut world = World::new();
    let peer = world.connect();
    dying(&mut world, peer, |table| {
        table.int("x-max-length", 1);
        table.text("x-overflow", "reject-publish");
    });
    world.say(peer, &publish("", "q", "kept"));
    // Without confirms there is no word for it.
    world.say(peer, &publish("", "q", "refused"));
    assert!(world.got(peer).is_empty());
    assert_eq!(count(&mut world, peer, "q"), "1");
    assert_eq!(count(&mut world, peer, "dead"), "0");
}

#[test]
fn a_dead_letter_queue_that_rejects_does_not_grow() {
    let mut world = World::new();
    let peer = world.connect();
    world.say(
        peer,
        &declare_with("dead", DURABLE, |table| {
            table.int("x-max-length", 1);
            table.text("x-overflow", "reject-publish");
        }),
    );
    world.say(peer, &declare_mortal("q", "dead", |table| table.int("x-message-ttl", 100)));
    for text in ["a", "b", "c"] {
        world.say(peer, &publish("", "q", text));
    }
    world.wait(150);
    assert_eq!(count(&mut world, peer, "q"), "0");
    assert_eq!(count(&mut world, peer, "dead"), "1");
    assert_eq!(story(&mut world, peer, "dead").0, "a");
}

#[test]
fn a_queue_that_rejects_keeps_what_it_confirmed_whatever_a_record_takes_besides_its_body() {
    let mut world = World::new();
    let peer = world.connect();
    dying(&mut world, peer, |table| {
        table.int("x-max-length-bytes", 700);
        table.text("x-overflow", "reject-publish");
    });
    world.say(peer, &method(1, 85, 10, &[&[0]]));
    world.got(peer);
    for text in ["a", "b", "c"] {
        world.say(peer, &publish("", "q", &text.repeat(338)));
    }
    assert_eq!(world.got(peer)[0], "1 nack 3");
    assert_eq!(count(&mut world, peer, "q"), "2");
    assert_eq!(count(&mut world, peer, "dead"), "0");
}
