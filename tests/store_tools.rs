//! Looking into stores: sound ones, damaged ones, parts of them, and what is none.

#[path = "support/broker.rs"]
mod support;

use forebay::command::*;
use forebay::flash::Geometry;
use forebay::model::headers::{Value as Header, Writer as HeaderWriter};
use forebay::model::key::Key;
use forebay::units::*;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use support::Bench;

const FOREBAY: &str = env!("CARGO_BIN_EXE_forebay");
const SEGMENT: usize = 4096;

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forebay-tools-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// Puts a store there under the name that is looked for.
    fn put(&self, image: &[u8]) {
        std::fs::write(self.0.join("forebay.fby"), image).unwrap();
    }

    fn run(&self, words: &[&str]) -> Answer {
        Answer::of(Process::new("timeout").args(["60", FOREBAY]).args(words).current_dir(&self.0).output())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a command answered.
#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Answer {
    fn of(output: std::io::Result<Output>) -> Answer {
        let output = output.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Answer { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }

    /// The lines about damage.
    fn damage(&self) -> Vec<&str> {
        self.out.lines().skip_while(|line| !line.starts_with("damage ")).collect()
    }

    fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }
}

fn durable() -> QueueOptions<'static> {
    QueueOptions { durable: true, ..QueueOptions::default() }
}

fn image(bench: &Bench) -> Vec<u8> {
    bench.flash.medium.borrow().written.clone()
}

/// Ends in order.
fn close(mut bench: Bench) -> Vec<u8> {
    bench.settle();
    bench.broker.close(bench.now);
    while bench.broker.poll_durable().is_some() || !bench.broker.is_closed() {}
    image(&bench)
}

/// Messages in a queue called line; enough for several segments if there are many.
fn line(count: u32) -> Bench {
    let mut bench = Bench::new();
    bench.durable_queue("line");
    for number in 0..count {
        bench.publish("line", &format!("message {number:04} with some more text")).unwrap();
    }
    bench.settle();
    bench
}

/// Where a text stands in an image.
fn place(image: &[u8], text: &str) -> usize {
    image.windows(text.len()).position(|part| part == text.as_bytes()).unwrap()
}

/// Damages a body in more bits than can be mended.
fn spoil(image: &mut [u8], text: &str) {
    let at = place(image, text);
    image[at..at + 6].iter_mut().for_each(|byte| *byte ^= 0xA5);
}

/// A store with something of everything, its clock at 1,000,000 ms of log time.
fn furnished() -> Bench {
    let mut bench = Bench::new();
    let command = Command::DeclareExchange {
        name: "plant",
        options: ExchangeOptions {
            kind: ExchangeKind::Headers,
            durable: true,
            alternate: Some("amq.fanout"),
            ..ExchangeOptions::default()
        },
    };
    bench.execute(command).unwrap();
    let dead_letter_key = Some(Key::slashes(b"dead/x"));
    let work = QueueOptions {
        dead_letter_exchange: Some("amq.topic"),
        dead_letter_key,
        delivery_limit: 3,
        max_priority: 5,
        max_count: 1000,
        max_bytes: 99_999,
        ttl_ms: Some(3_600_000),
        lease_ms: 30_000,
        overflow: Overflow::Reject,
        single_active: true,
        dedup: true,
        expires_ms: 86_400_000,
        ..durable()
    };
    bench.queue("work", work);
    let stream = bench.queue("stream", QueueOptions { kind: QueueKind::Stream, ..durable() });
    let group = QueueOptions { kind: QueueKind::Group { stream }, start: Offset(0), ..durable() };
    let group = bench.queue("group", group);
    bench.bind("amq.topic", "work", Key::slashes(b"plant/+"), Grade::ExactlyOnce);
    let mut memory = [0; 128];
    let arguments = headers(&mut memory, &[("unit", Header::Text("°C"))]);
    let destination = Destination::Queue("work");
    let grade = Grade::AtLeastOnce;
    let bind = Bind { exchange: "plant", destination, pattern: Key::dots(b""), arguments, grade };
    bench.execute(Command::Bind(bind)).unwrap();

    bench.topic("plant/x", "kept", Grade::AtLeastOnce, true);
    let mut memory = [0; 128];
    let all = [
        ("unit", Header::Text("°C")),
        ("n", Header::Int(-3)),
        ("f", Header::Float(0.1)),
        ("raw", Header::Bytes(&[0, 255])),
        ("at", Header::Time(951_782_400_000)),
        ("yes", Header::Bool(true)),
        ("nil", Header::Nil),
    ];
    let block = headers(&mut memory, &all);
    to_work(&mut bench, block, "warm\nand \u{1b}[31mred".as_bytes());
    bench.publish_with("work", "later", |publish| publish.delay_ms = Some(7_200_000)).unwrap();
    bench.publish_with("work", "soon gone", |publish| publish.ttl_ms = Some(60_000)).unwrap();
    to_work(&mut bench, &[], &[0xff, 0x00, b'a']);
    bench.publish_with("work", "first", |publish| publish.priority = 5).unwrap();
    let dedup = DedupKey::Window(77);
    bench.publish_with("stream", "s0", |publish| publish.dedup = Some(dedup)).unwrap();
    bench.publish("stream", "s1").unwrap();
    bench.publish("stream", "s2").unwrap();
    bench.settle();
    bench.consume(group, 2);
    bench.settle();
    let got = bench.take();
    // The other is pending.
    bench.ack(&got[1]);
    bench.wait(100);
    bench
}

fn to_work(bench: &mut Bench, headers: &[u8], body: &[u8]) {
    let message = Message { key: Key::dots(b"work"), headers, body };
    let grade = Grade::AtLeastOnce;
    bench.execute(Command::Publish(Publish { message, durable: true, grade, ..Publish::default() })).unwrap();
}

fn headers<'m>(memory: &'m mut [u8], all: &[(&str, Header<'_>)]) -> &'m [u8] {
    let mut writer = HeaderWriter::new(memory);
    all.iter().for_each(|&(name, value)| writer.push(name, value).unwrap());
    writer.finish()
}

#[test]
fn a_sound_store_is_told_in_full() {
    let here = Directory::new();
    here.put(&close(furnished()));
    let before = std::fs::read(here.0.join("forebay.fby")).unwrap();
    let answer = here.run(&["fsck", "forebay.fby"]);
    let lines = answer.lines();
    let first =
        ["store       forebay.fby, 256K", "format      version 1, 64 segments of 4K, write units of 4 bytes"];
    let fixed = [
        "retained    1",
        "dedup       1 of producers, 0 exactly-once publishes not released",
        "declared    queues 3, exchanges 1 and the usual, bindings 2",
        "       ready    delayed   received    damaged      bytes  kind    queue",
    ];
    assert_eq!(lines[..2], first, "{answer:?}");
    // How many are free depends on when the broker reclaims.
    assert!(lines[2].starts_with("segments    "), "{answer:?}");
    assert!(lines[2].ends_with(" free, 0 unreadable; erased 1 to 1 times"), "{answer:?}");
    assert_eq!(lines[3], "stop        in order", "{answer:?}");
    assert!(lines[4].starts_with("durable     up to segment 65, byte "), "{answer:?}");
    assert!(lines[5].starts_with("log time    2020-01-01T00:16:40."), "{answer:?}");
    assert!(lines[6].starts_with("messages    9 in "), "{answer:?}");
    assert_eq!(lines[7..11], fixed, "{answer:?}");
    let rows: Vec<(&str, &str)> =
        lines[11..14].iter().map(|row| (&row[..45], row.rsplit(' ').next().unwrap())).collect();
    let row = |ready, delayed| format!("{ready:>12} {delayed:>10} {:>10} {:>10}", 0, 0);
    for (name, counts) in [("work", row(5, 1)), ("stream", row(3, 0)), ("group", row(1, 0))] {
        assert!(rows.iter().any(|(left, right)| *left == counts && *right == name), "{name} {answer:?}");
    }
    assert_eq!(lines[14..], ["damage      none"], "{answer:?}");
    assert_eq!((answer.code, answer.err.as_str()), (Some(0), ""));
    assert_eq!(std::fs::read(here.0.join("forebay.fby")).unwrap(), before, "nothing was written");
    let report = here.run(&["fsck", "--json"]).json().remove(0);
    assert_eq!(report["sound"], true);
    assert_eq!(report["store"]["segment_count"], 64);
    assert_eq!(report["queues"].as_array().unwrap().len(), 3);
    assert_eq!(report["damage"].as_array().unwrap().len(), 0);
}

#[test]
fn cat_shows_messages_one_a_line_whatever_they_hold() {
    let here = Directory::new();
    here.put(&image(&furnished()));
    let answer = here.run(&["cat", "forebay.fby", "work"]);
    let t = "2020-01-01T00:16:40.000Z";
    let hour = "expires 2020-01-01T01:16:40.000Z";
    let mut lines = answer.lines();
    lines.sort_unstable();
    let block =
        "{unit: \"°C\", n: -3, f: 0.1, raw: \"\\x00\\xff\", at: 2000-02-29T00:00:00Z, yes: true, nil: nil}";
    assert_eq!(
        lines,
        [
            format!("work#0  {t}  ready, {hour}  plant/x  kept"),
            format!("work#1  {t}  ready, {hour}  work  {block}  warm\\nand \\x1b[31mred"),
            format!("work#2  {t}  delayed until 2020-01-01T02:16:40.000Z, {hour}  work  later"),
            format!("work#3  {t}  ready, expires 2020-01-01T00:17:40.000Z  work  soon gone"),
            format!("work#4  {t}  ready, {hour}  work  \\xff\\x00a"),
            format!("work#5  {t}  ready, priority 5, {hour}  work  first"),
        ],
        "{answer:?}"
    );
    assert_eq!((answer.code, answer.err.as_str()), (Some(0), ""));
    assert_eq!(here.run(&["cat", "--retained"]).out, format!("retained  {t}  kept  plant/x  kept\n"));
    let group = here.run(&["cat", "--queue", "group"]).out;
    assert_eq!(group, format!("group#0  {t}  ready, perhaps delivered  stream  s0\n"));
    assert_eq!(here.run(&["cat", "forebay.fby", "stream", "--from", "1", "--raw"]).out, "s1\ns2\n");
    assert_eq!(here.run(&["cat", "forebay.fby", "stream", "-n", "1", "--raw"]).out, "s0\n");
    let unknown = here.run(&["cat", "forebay.fby", "strem"]);
    assert_eq!(unknown.code, Some(1));
    assert!(
        unknown.err.starts_with("forebay: there is no queue strem in forebay.fby; there are "),
        "{unknown:?}"
    );
}

#[test]
fn an_export_has_everything_it_takes_to_load_it_elsewhere() {
    let here = Directory::new();
    here.put(&close(furnished()));
    let answer = here.run(&["export"]);
    assert_eq!((answer.code, answer.err.as_str()), (Some(0), ""));
    let lines = answer.json();
    let typed = |name: &str| -> Vec<&Value> { lines.iter().filter(|line| line["type"] == name).collect() };
    let start_ms = 1_577_836_800_000u64 + 1_000_000;
    assert_eq!((&lines[0]["type"], &lines[0]["format"]), (&"store".into(), &1.into()));
    assert_eq!(lines[0]["clean"], true);
    let same = |line: &Value, text: &str| assert_eq!(*line, serde_json::from_str::<Value>(text).unwrap());
    let exchange = r#"{"type":"exchange","name":"plant","kind":"headers","alternate":"amq.fanout"}"#;
    same(typed("exchange")[0], exchange);
    let queue = |name: &str| *typed("queue").iter().find(|line| line["name"] == name).unwrap();
    same(
        queue("work"),
        r#"{"type":"queue","name":"work","kind":"work","next_offset":6,"auto_delete":false,"session":false,
            "single_active":true,"deduplication":true,"expires_ms":86400000,"max_count":1000,"max_bytes":99999,"overflow":"reject","ttl_ms":3600000,"delivery_limit":3,
            "max_priority":5,"lease_ms":30000,"dead_letter_exchange":"amq.topic",
            "dead_letter_key":"dead/x","dead_letter_key_form":"slashes"}"#,
    );
    assert_eq!(queue("group")["stream"], "stream");
    assert_eq!(queue("group")["next_offset"], 2);
    let bindings = typed("binding");
    let bound = |exchange: &str| *bindings.iter().find(|line| line["exchange"] == exchange).unwrap();
    same(
        bound("amq.topic"),
        r#"{"type":"binding","exchange":"amq.topic","queue":"work","pattern":"plant/+",
            "pattern_form":"slashes","grade":"exactly-once"}"#,
    );
    same(
        bound("plant"),
        r#"{"type":"binding","exchange":"plant","queue":"work","pattern":"","pattern_form":"dots",
            "arguments":[{"name":"unit","type":"text","value":"°C"}],"grade":"at-least-once"}"#,
    );
    let messages = typed("message");
    let message = |queue: &str, offset: u64| {
        *messages.iter().find(|line| line["queue"] == queue && line["offset"] == offset).unwrap()
    };
    assert_eq!(messages.len(), 9);
    let warm = message("work", 1);
    assert_eq!(warm["body"], "warm\nand \u{1b}[31mred");
    assert_eq!(warm["published_ms"], start_ms);
    assert_eq!(warm["expires_ms"], start_ms + 3_600_000);
    assert_eq!(
        warm["headers"],
        serde_json::json!([
            {"name": "unit", "type": "text", "value": "°C"},
            {"name": "n", "type": "int", "value": -3},
            {"name": "f", "type": "float", "value": 0.1},
            {"name": "raw", "type": "bytes", "value_base64": "AP8="},
            {"name": "at", "type": "time", "value": 951_782_400_000u64},
            {"name": "yes", "type": "bool", "value": true},
            {"name": "nil", "type": "nil"},
        ])
    );
    assert_eq!(message("work", 2)["ready_ms"], start_ms + 7_200_000);
    assert!(warm.get("ready_ms").is_none() && warm.get("ttl_ms").is_none());
    assert_eq!(message("work", 3)["ttl_ms"], 60_000);
    assert!(message("work", 3).get("ready_ms").is_none(), "a TTL is no delay");
    assert_eq!(message("work", 4)["body_base64"], "/wBh");
    assert_eq!(message("work", 5)["priority"], 5);
    assert_eq!(message("work", 0)["key_form"], "slashes");
    assert_eq!(message("work", 0)["grade"], "at-least-once");
    same(
        typed("pending")[0],
        r#"{"type":"pending","queue":"group","offset":0,"deliveries":0,"received":false}"#,
    );
    assert_eq!(
        (&typed("retained")[0]["key"], &typed("retained")[0]["body"]),
        (&"plant/x".into(), &"kept".into())
    );
    same(
        lines.last().unwrap(),
        r#"{"type":"end","exchanges":1,"queues":3,"bindings":2,"messages":9,"pending":1,"retained":1,
            "unreadable":0}"#,
    );
}

#[test]
fn what_is_exported_makes_the_same_store_again() {
    let here = Directory::new();
    here.put(&close(line(40)));
    let mut copy = Bench::new();
    for line in here.run(&["export"]).json() {
        match line["type"].as_str().unwrap() {
            "queue" => drop(copy.durable_queue(line["name"].as_str().unwrap())),
            "message" => drop(copy.publish(line["queue"].as_str().unwrap(), line["body"].as_str().unwrap())),
            _ => {}
        }
    }
    let first = here.run(&["cat", "--raw"]).out;
    here.put(&close(copy));
    assert_eq!(here.run(&["cat", "--raw"]).out, first);
    assert_eq!(first.lines().count(), 40);
}

#[test]
fn a_damaged_message_is_named_and_the_others_are_there() {
    let here = Directory::new();
    let mut image = close(line(200));
    spoil(&mut image, "message 0017");
    spoil(&mut image, "message 0150");
    here.put(&image);
    let answer = here.run(&["fsck"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert_eq!(
        answer.damage(),
        [
            "damage      2",
            "  queue line, offset 17: its bytes are damaged, the message is lost",
            "  queue line, offset 150: its bytes are damaged, the message is lost",
        ]
    );
    let report = here.run(&["fsck", "--json"]).json().remove(0);
    assert_eq!((&report["sound"], &report["queues"][0]["damaged"]), (&false.into(), &2.into()));
    assert_eq!((&report["damage"][0]["queue"], &report["damage"][0]["offset"]), (&"line".into(), &17.into()));
    let cat = here.run(&["cat"]);
    assert_eq!((cat.code, cat.lines().len(), cat.lines()[17]), (Some(1), 200, "line#17  damaged"));
    assert_eq!(
        cat.err,
        "forebay: damaged places in forebay.fby: 2; `forebay fsck forebay.fby` says what is lost\n"
    );
    let export = here.run(&["export"]);
    let lines = export.json();
    assert_eq!(export.code, Some(1));
    let lost = serde_json::json!({"type": "unreadable", "queue": "line", "offset": 150});
    assert!(lines.contains(&lost));
    let end = lines.last().unwrap();
    assert_eq!((&end["messages"], &end["unreadable"]), (&198.into(), &2.into()));
}

#[test]
fn what_is_mended_and_what_nobody_needs_is_told_as_harmless() {
    let here = Directory::new();
    let mut bench = line(200);
    let id = bench.durable_queue("line");
    let consumer = bench.consume(id, 3);
    bench.settle();
    bench.take().iter().for_each(|got| bench.ack(got));
    bench.execute(Command::Unsubscribe(consumer)).unwrap();
    bench.wait(1000);
    let mut image = close(bench);
    spoil(&mut image, "message 0001");
    let bit = place(&image, "message 0150");
    image[bit] ^= 4;
    here.put(&image);
    let answer = here.run(&["fsck"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert_eq!(
        answer.damage(),
        [
            "damage      2",
            "  1 records have one wrong bit: nothing is lost, it is mended whenever they are read",
            "  1 records of messages that are in no queue any more are damaged: nothing is lost, but the \
             medium does not keep what is written",
        ]
    );
    assert_eq!(here.run(&["cat", "--raw"]).lines().len(), 197);
}

#[test]
fn a_damaged_retained_value_is_told() {
    let here = Directory::new();
    let mut bench = Bench::new();
    for topic in ["a", "b"] {
        bench.topic(topic, &format!("value of {topic} with some length"), Grade::AtLeastOnce, true);
    }
    let mut image = close(bench);
    spoil(&mut image, "value of b");
    here.put(&image);
    let answer = here.run(&["fsck"]);
    let lost = "  a retained value: its bytes are damaged, it is lost";
    assert_eq!((answer.code, answer.damage()), (Some(1), vec!["damage      1", lost]), "{answer:?}");
    assert_eq!(here.run(&["cat", "--retained"]).lines()[1], "retained  damaged");
}

#[test]
fn a_torn_end_that_was_never_confirmed_is_no_damage() {
    let here = Directory::new();
    let bench = line(30);
    let mut image = image(&bench);
    let end = image.len() - image.iter().rev().position(|&byte| byte != 0xFF).unwrap();
    image[end..end + 20].copy_from_slice(&[0x17; 20]);
    here.put(&image);
    let answer = here.run(&["fsck"]);
    assert_eq!((answer.code, answer.damage()), (Some(0), vec!["damage      none"]), "{answer:?}");
    assert_eq!(answer.lines()[3], "stop        not in order; what was confirmed does not depend on that");
    assert_eq!(here.run(&["cat", "--raw"]).lines().len(), 30);
}

#[test]
fn a_segment_that_is_gone_is_told_with_its_bytes_and_its_time() {
    let here = Directory::new();
    let mut bench = line(50);
    for number in 50..400 {
        bench.wait(1000);
        bench.publish("line", &format!("message {number:04} with some more text")).unwrap();
    }
    let mut image = close(bench);
    image[2 * SEGMENT..3 * SEGMENT].fill(0);
    here.put(&image);
    let answer = here.run(&["fsck"]);
    let damage = answer.damage();
    assert_eq!((answer.code, damage.len()), (Some(1), 2), "{answer:?}");
    let told = damage[1];
    assert!(
        told.starts_with("  bytes 8192 to 12287, all of segment 66, written from 2020-01-01T00:"),
        "{told}"
    );
    let all = here.run(&["cat", "--raw"]);
    let left: Vec<usize> = all.lines().iter().map(|body| body[8..12].parse().unwrap()).collect();
    let lost: Vec<usize> = (0..400).filter(|number| !left.contains(number)).collect();
    let (first, last) = (lost[0], lost[lost.len() - 1]);
    assert!(lost.len() > 30 && last - first == lost.len() - 1, "{lost:?}");
    let named = format!(": queue line, offsets {first} to {last}, lost; what was acknowledged there");
    assert!(told.contains(&named) && told.ends_with(" there is delivered again"), "{told}");
    let report = here.run(&["fsck", "--json"]).json().remove(0);
    assert_eq!(report["damage"][0]["missing"][0]["last"], last);
}

#[test]
fn records_that_are_damaged_with_their_footer_are_told_by_their_bytes() {
    let here = Directory::new();
    let mut image = close(line(400));
    spoil(&mut image, "message 0090");
    let segment = place(&image, "message 0091") / SEGMENT;
    let end = (segment + 1) * SEGMENT;
    image[end - 40..end].fill(0);
    here.put(&image);
    let answer = here.run(&["fsck"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let damage = answer.damage();
    assert!(damage[1].starts_with("  bytes ") && damage[1].contains(", in segment "), "{answer:?}");
    assert!(damage[1].contains(": queue line, offset 90, lost; "), "{answer:?}");
    assert_eq!(here.run(&["cat"]).code, Some(1));
    let footers = "stop        in order; the footers of 1 segments are damaged and not needed";
    assert_eq!(answer.lines()[3], footers);
}

#[test]
fn a_truncated_image_is_read_as_far_as_it_goes() {
    let here = Directory::new();
    let mut image = close(line(400));
    let used = place(&image, "message 0300") / SEGMENT;
    image.truncate(used * SEGMENT + 100);
    here.put(&image);
    let answer = here.run(&["fsck"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let missing = 64 * SEGMENT - (used * SEGMENT + 100);
    let told = format!("  {missing} bytes of the store are not in the file: what was stored there is lost");
    assert_eq!(answer.damage()[1], told);
    let rest = here.run(&["cat", "--raw"]).lines().len();
    assert!((200..=301).contains(&rest), "{rest}");
}

#[test]
fn a_store_is_found_within_the_image_of_a_card() {
    let here = Directory::new();
    let store = close(line(400));
    let mut card: Vec<u8> = (0..3 * 1024 * 1024u32).map(|number| (number >> 7) as u8).collect();
    card.truncate(2_625_536);
    let begin = card.len();
    assert_eq!(begin % 4096, 0);
    card.extend_from_slice(&store);
    // The first segment is damaged, and something else follows.
    card[begin..begin + 64].fill(0x33);
    card.extend_from_slice(&[9; 5000]);
    here.put(&card);
    let answer = here.run(&["fsck", "--progress"]);
    assert_eq!(
        answer.lines()[0],
        format!("store       forebay.fby, 256K from byte {begin} on"),
        "{answer:?}"
    );
    assert!(answer.err.starts_with("looking for the store: "), "{answer:?}");
    assert!(here.run(&["cat", "--raw"]).out.ends_with("message 0399 with some more text\n"));
    // An image that lacks the beginning.
    here.put(&store[SEGMENT..]);
    let answer = here.run(&["fsck"]);
    assert_eq!(answer.lines()[0], "store       forebay.fby, 256K from byte -4096 on", "{answer:?}");
    assert!(here.run(&["cat", "--raw"]).out.ends_with("message 0399 with some more text\n"));
}

#[test]
fn what_is_no_store_is_refused_with_2_by_fsck_and_1_by_the_others() {
    let here = Directory::new();
    let refused = |content: Option<&[u8]>, says: &str| {
        if let Some(content) = content {
            here.put(content);
        }
        for (command, code) in [("fsck", 2), ("cat", 1), ("export", 1)] {
            let answer = here.run(&[command, "forebay.fby"]);
            assert_eq!((answer.code, answer.out.as_str()), (Some(code), ""), "{answer:?}");
            assert_eq!(answer.err, format!("forebay: {says}\n"));
        }
    };
    refused(None, "forebay.fby is not there");
    refused(Some(b""), "forebay.fby is empty; there is no store in it");
    let letter = "Dear Sir or Madam, ".repeat(10_000);
    refused(Some(letter.as_bytes()), "forebay.fby is not a store, nor is there one in it");
    refused(Some(&vec![0; 300_000]), "forebay.fby is not a store, nor is there one in it");
    let mut newer = close(line(400));
    for header in
        newer.chunks_mut(SEGMENT).map(|segment| &mut segment[..60]).filter(|head| head[..4] == *b"FBSG")
    {
        header[4] = 9;
        let crc = crc32c::crc32c(&header[..56]).to_le_bytes();
        header[56..].copy_from_slice(&crc);
    }
    refused(Some(&newer), "forebay.fby was written by a newer forebay (format 9); use that one");
    let directory = here.run(&["fsck", "."]);
    assert_eq!(directory.err, "forebay: . is not a file or a device; copy the store into a file first\n");
    assert_eq!(here.run(&["fsck", "a", "b"]).code, Some(2));
}

#[test]
fn a_store_that_was_just_made_is_empty_and_sound() {
    let here = Directory::new();
    here.put(&image(&Bench::new()));
    let answer = here.run(&["fsck"]);
    assert_eq!((answer.code, answer.damage()), (Some(0), vec!["damage      none"]), "{answer:?}");
    assert_eq!(here.run(&["cat"]).out, "");
    assert_eq!(here.run(&["export"]).json().len(), 2);
}

#[test]
fn a_store_in_use_is_refused_with_the_pid_of_its_broker() {
    let here = Directory::new();
    let mut broker = Process::new(FOREBAY)
        .args(["--store-size", "4M", "--segment-size", "64K", "--listen", "unix:mqtt"])
        .current_dir(&here.0)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(broker.stderr.take().unwrap()).lines();
    said.find(|line| line.as_ref().unwrap().ends_with(" ready")).unwrap().unwrap();
    let answer = here.run(&["fsck"]);
    let pid = broker.id();
    let says = format!(
        "forebay: a broker runs on forebay.fby (process {pid} has it); ask it with `forebay status`, or stop it first\n"
    );
    assert_eq!((answer.code, answer.err), (Some(2), says));
    assert_eq!(here.run(&["cat"]).code, Some(1));
    broker.kill().unwrap();
    broker.wait().unwrap();
    let answer = here.run(&["fsck"]);
    assert_eq!((answer.code, answer.lines()[0]), (Some(0), "store       forebay.fby, 4M"), "{answer:?}");
}

#[test]
fn damage_anywhere_is_told_or_harmless_and_never_a_crash() {
    let here = Directory::new();
    let sound = close(furnished());
    let used = sound.len() - sound.iter().rev().position(|&byte| byte != 0xFF).unwrap();
    let mut seed = 0x5eed_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut codes = [0; 3];
    for round in 0..60 {
        let mut image = sound.clone();
        let size = 1 + random(40);
        let at = std::iter::repeat_with(|| random(used)).find(|&at| sound[at] != 0xFF).unwrap();
        image[at..].iter_mut().take(size).for_each(|byte| *byte ^= 1 + random(255) as u8);
        here.put(&image);
        let answer = here.run(&["fsck"]);
        let code = answer.code.unwrap_or(99) as usize;
        assert!(code <= 2, "round {round}, {size} bytes at {at}: {answer:?}");
        assert_eq!(code == 1, answer.out.contains("damage ") && !answer.out.contains("damage      none"));
        codes[code] += 1;
        for command in ["cat", "export"] {
            assert!(here.run(&[command]).code.unwrap_or(99) <= 1, "round {round}, {size} bytes at {at}");
        }
    }
    assert!(codes[1] > 10, "{codes:?}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let here = Directory::new();
    let mut bench = line(0);
    // More than a pipe holds.
    for number in 0..160 {
        bench.publish("line", &format!("{number:0600}")).unwrap();
        bench.settle();
    }
    here.put(&close(bench));
    for command in ["cat", "export"] {
        let mut child = Process::new(FOREBAY)
            .arg(command)
            .current_dir(&here.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
    }
}

#[test]
fn a_full_store_larger_than_the_first_tables_is_read() {
    let here = Directory::new();
    let geometry = Geometry { segment_size: 256 << 10, segment_count: 256, write_unit: 512 };
    let mut bench = Bench::with(geometry, 8192);
    bench.durable_queue("line");
    let body = "x".repeat(600);
    let mut count = 0u32;
    let refusal = loop {
        if let Err(refusal) = bench.publish("line", &format!("{count:06}{body}")) {
            break refusal;
        }
        count += 1;
        if count % 5000 == 0 {
            bench.settle();
        }
    };
    assert_eq!(refusal, Refusal::StoreFull);
    assert!(count > 66_000, "{count}");
    here.put(&close(bench));
    for words in [&["fsck", "--progress"][..], &["cat", "--raw"], &["export"]] {
        let start = Instant::now();
        let answer = here.run(words);
        println!("{words:?} of 64 MiB with {count} messages took {} ms", start.elapsed().as_millis());
        assert_eq!(answer.code, Some(0), "{}", answer.err);
        match words[0] {
            "fsck" => {
                let told = format!("checking messages: {count} of {count} (100 %)");
                assert_eq!(answer.err.lines().last(), Some(told.as_str()));
                assert_eq!(answer.damage(), ["damage      none"]);
            }
            "cat" => {
                let numbers = answer.out.lines().map(|line| line[..6].parse::<u32>().unwrap());
                assert!(numbers.eq(0..count));
            }
            _ => assert_eq!(answer.json().last().unwrap()["messages"], count),
        }
    }
    let _ = std::io::stdout().flush();
    assert!(Path::new(&here.0).exists());
}
