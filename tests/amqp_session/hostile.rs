//! Random bytes and mutated frames against a session, from a seed: no panic, bounded memory, and
//! nobody else is harmed.

use crate::support::*;
use forebay::protocol::amqp::codec::GREETING;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Bytes that sessions have not consumed and answers nobody reads, at most.
const OUT_MAX: usize = 1 << 20;

fn frames() -> Vec<Vec<u8>> {
    let headers = table(|table| {
        table.int("x-delay", 5);
        table.table("t", |table| table.text("a", "b"));
    });
    vec![
        declare("q", DURABLE),
        declare("", EXCLUSIVE | AUTO_DELETE),
        declare_with("s", DURABLE, |table| table.text("x-queue-type", "stream")),
        declare_with("l", DURABLE, |table| {
            table.int("x-max-length", 2);
            table.int("x-message-ttl", 10);
            table.text("x-dead-letter-exchange", "");
            table.text("x-dead-letter-routing-key", "q");
        }),
        declare("q", PASSIVE),
        exchange("x", "topic", 2),
        exchange("amq.topic", "", PASSIVE),
        bind("q", "amq.topic", "a.*"),
        bind("q", "x", "#"),
        consume("q", "c", 0),
        consume("q", "", 2),
        consume_with("s", "", 0, |table| table.text("x-stream-offset", "first")),
        consume("amq.rabbitmq.reply-to", "r", 2),
        cancel("c"),
        qos(3, false),
        qos(2, true),
        get("q", false),
        get("l", true),
        ack(1, false),
        ack(0, true),
        nack(2, true, true),
        reject(1, false),
        publish("", "q", "hello"),
        publish("amq.topic", "a.b", "topic"),
        publish_with("", "l", 1, (0x3000, &[&headers[..], &[2]].concat()), "delayed"),
        publish_with("", "q", 0, (0x100, &short("5")), "expires"),
        publish_method("", "q", 0),
        header(5, 0x1000, &[2]),
        body(b"01234"),
        method(1, 85, 10, &[&[0]]),
        method(1, 90, 10, &[]),
        method(1, 90, 20, &[]),
        method(1, 90, 30, &[]),
        method(1, 20, 20, &[&[0]]),
        method(1, 20, 20, &[&[1]]),
        method(1, 20, 40, &[&[0, 200], &short(""), &[0; 4]]),
        method(1, 20, 41, &[]),
        method(1, 20, 10, &[&[0]]),
        method(2, 20, 10, &[&[0]]),
        method(1, 60, 110, &[&[1]]),
        method(1, 50, 30, &[&[0, 0], &short("q"), &[0]]),
        method(1, 50, 40, &[&[0, 0], &short("q"), &[0]]),
        method(1, 40, 20, &[&[0, 0], &short("x"), &[0]]),
        vec![8, 0, 0, 0, 0, 0, 0, 0xce],
    ]
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.next() as u8),
            _ => bytes[at] = *[0, 1, 127, 128, 254, 255].get(random.below(6)).unwrap(),
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
}

/// One connection that says valid, mutated and random things until it is cut off.
fn harass(world: &mut World, seed: u64) {
    let mut random = Random(seed);
    let frames = frames();
    let peer = if seed % 16 == 0 { world.open(true) } else { world.connect() };
    if seed % 16 == 0 && seed % 32 == 0 {
        world.say(peer, &GREETING);
    }
    for _ in 0..40 {
        let mut bytes = match random.below(12) {
            0 => (0..random.below(64)).map(|_| random.next() as u8).collect(),
            _ => frames[random.below(frames.len())].clone(),
        };
        if random.below(8) == 0 && !bytes.is_empty() {
            mutate(&mut bytes, &mut random);
        }
        world.say(peer, &bytes);
        if random.below(4) == 0 {
            world.wait(random.below(20) as u64);
        }
        if world.closed(peer).is_some() {
            break;
        }
    }
    assert!(world.bytes(peer).len() < OUT_MAX, "seed {seed}");
    if world.closed(peer).is_none() {
        world.lose(peer);
    }
}

#[test]
fn random_and_mutated_frames_harm_nobody_else() {
    for world_seed in 0..40u64 {
        let mut world = World::new();
        let honest = world.connect();
        world.say(honest, &declare("honest", DURABLE));
        world.say(honest, &method(1, 85, 10, &[&[0]]));
        world.say(honest, &consume("honest", "h", 0));
        world.got(honest);
        for seed in 0..25 {
            harass(&mut world, world_seed * 1000 + seed);
            world.say(honest, &publish("", "honest", "ping"));
            let got = world.got(honest);
            let number = seed + 1;
            let delivered = format!("1 deliver h {number} :honest ping");
            assert!(got.contains(&delivered), "world {world_seed}, seed {seed}: {got:?}");
            world.say(honest, &ack(number, false));
        }
    }
}

#[test]
fn deep_tables_before_the_login_are_refused() {
    let mut world = World::new();
    let peer = world.open(true);
    world.say(peer, &GREETING);
    let mut deep = Vec::new();
    for _ in 0..400 {
        let inner = std::mem::take(&mut deep);
        deep = [&[1, b'a', b'F'][..], &long(&inner)].concat();
    }
    world.say(
        peer,
        &method(0, 10, 11, &[&long(&deep), &short("PLAIN"), &long(b"\0guest\0guest"), &short("en_US")]),
    );
    let got = world.got(peer);
    assert!(got[1].starts_with("0 connection.close 502 SYNTAX_ERROR"), "{got:?}");
}
