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
/// Bytes of unfinished messages and of a transaction that a connection may hold: twice the largest message,
/// and what came last.
const HELD_MAX: usize = 2 * 900 + 900 + 4096 + 512;

fn frames() -> Vec<Vec<u8>> {
    [declarations(), uses(), methods()].concat()
}

fn declarations() -> Vec<Vec<u8>> {
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
        declare_with("f", DURABLE, |table| {
            table.int("x-max-length-bytes", 300);
            table.text("x-overflow", "reject-publish-dlx");
            table.text("x-dead-letter-exchange", "x");
            table.bool("x-deduplication", true);
            table.int("x-delivery-limit", 1);
        }),
        declare(&"n".repeat(255), DURABLE),
        bind(&"n".repeat(255), "x", &"k".repeat(255)),
        declare("q", PASSIVE),
        exchange("x", "topic", 2),
        exchange("amq.topic", "", PASSIVE),
        bind("q", "amq.topic", "a.*"),
        bind("q", "x", "#"),
    ]
}

fn uses() -> Vec<Vec<u8>> {
    let headers = table(|table| {
        table.int("x-delay", 5);
        table.table("t", |table| table.text("a", "b"));
    });
    let carbon = table(|table| {
        for name in ["CC", "BCC"] {
            table.array(name, |out| out.extend([&b"S"[..], &long(b"q"), b"S", &long(b"s")].concat()));
        }
    });
    vec![
        consume("q", "c", 0),
        consume("q", "", 2),
        consume_with("s", "", 0, |table| table.text("x-stream-offset", "first")),
        consume_with("s", "d", 0, |table| table.int("x-stream-offset", 2)),
        consume("amq.rabbitmq.reply-to", "r", 2),
        publish("", "s", "streamed"),
        get("s", true),
        publish_with("", "q", 0, (0x600, &[short("7"), short("amq.rabbitmq.reply-to")].concat()), "asked"),
        publish("", "amq.rabbitmq.reply-to", "nobody"),
        publish_with("", "f", 1, (0x3080, &[&carbon[..], &[2], &short("id")].concat()), &"f".repeat(200)),
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
    ]
}

fn methods() -> Vec<Vec<u8>> {
    vec![
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

/// What the sessions got to say, and the most that one held.
#[derive(Default)]
struct Seen {
    words: std::collections::BTreeSet<String>,
}

impl Seen {
    /// Notes the answers there are, and checks that what is kept for the connection has a bound.
    fn note(&mut self, answers: &[u8], held: usize, seed: u64) {
        assert!(answers.len() < OUT_MAX, "seed {seed}: {} bytes of answers", answers.len());
        assert!(held <= HELD_MAX, "seed {seed}: {held} bytes held");
        for line in words(answers) {
            let name = line.split(' ').nth(1).unwrap_or(&line);
            self.words.insert(name.to_string());
        }
    }
}

/// Whole conversations, of which a random one has to come to its end now and then: a transaction over a
/// stream and a queue, and a question with its answer.
fn conversations() -> Vec<Vec<Vec<u8>>> {
    let reply_to = [short("7"), short("amq.rabbitmq.reply-to")].concat();
    vec![
        vec![
            method(1, 90, 10, &[]),
            [declare("q", DURABLE), publish("", "s", "rolled back"), ack(0, true)].concat(),
            method(1, 90, 30, &[]),
        ],
        vec![
            method(1, 90, 10, &[]),
            [
                declare_with("s", DURABLE, |table| table.text("x-queue-type", "stream")),
                publish("", "s", "done"),
            ]
            .concat(),
            method(1, 90, 20, &[]),
        ],
        vec![
            declare("q", DURABLE),
            consume("amq.rabbitmq.reply-to", "r", 2),
            publish_with("", "q", 0, (0x600, &reply_to), "asked"),
            get("q", true),
            cancel("r"),
        ],
        vec![
            method(1, 85, 10, &[&[0]]),
            declare_with("full", DURABLE, |table| {
                table.int("x-max-length", 1);
                table.text("x-overflow", "reject-publish-dlx");
                table.text("x-dead-letter-exchange", "amq.topic");
            }),
            publish("", "full", "kept"),
            publish("", "full", "refused"),
        ],
    ]
}

/// One connection that says valid, mutated and random things until it is cut off.
fn harass(world: &mut World, seed: u64, seen: &mut Seen) {
    let mut random = Random(seed);
    let frames = frames();
    let peer = if seed % 16 == 0 { world.open(true) } else { world.connect() };
    if seed % 16 == 0 && seed % 32 == 0 {
        world.say(peer, &GREETING);
    }
    let all = conversations();
    let mut script: Vec<Vec<u8>> = Vec::new();
    for _ in 0..60 {
        let mut bytes = match random.below(16) {
            0 => (0..random.below(64)).map(|_| random.next() as u8).collect(),
            1 => {
                script = all[random.below(all.len())].clone();
                script.reverse();
                script.pop().unwrap_or_default()
            }
            2..=9 if !script.is_empty() => script.pop().unwrap_or_default(),
            _ => frames[random.below(frames.len())].clone(),
        };
        if random.below(8) == 0 && !bytes.is_empty() {
            mutate(&mut bytes, &mut random);
        }
        world.say(peer, &bytes);
        seen.note(world.unread(peer), world.held(peer), seed);
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
    let mut seen = Seen::default();
    for world_seed in 0..40u64 {
        let mut world = World::new();
        let honest = world.connect();
        world.say(honest, &declare("honest", DURABLE));
        world.say(honest, &method(1, 85, 10, &[&[0]]));
        world.say(honest, &consume("honest", "h", 0));
        world.got(honest);
        for seed in 0..25 {
            harass(&mut world, world_seed * 1000 + seed, &mut seen);
            world.say(honest, &publish("", "honest", "ping"));
            let got = world.got(honest);
            let number = seed + 1;
            let delivered = format!("1 deliver h {number} :honest ping");
            assert!(got.contains(&delivered), "world {world_seed}, seed {seed}: {got:?}");
            world.say(honest, &ack(number, false));
        }
    }
    for name in
        ["tx.commit-ok", "tx.rollback-ok", "get-ok", "deliver", "return", "nack", "ack", "basic.cancel-ok"]
    {
        assert!(seen.words.contains(name), "{name} never came: {:?}", seen.words);
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
