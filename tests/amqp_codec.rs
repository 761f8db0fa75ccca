//! The AMQP codec against another one, `amq-protocol`: the same bytes mean the same fields in both, and
//! what is damaged is read by ours without harm.

#[path = "support/broker.rs"]
mod broker;
#[path = "support/amqp.rs"]
mod support;

use amq_protocol::frame::{gen_frame, parse_frame, AMQPFrame, WriteContext};
use amq_protocol::protocol::{basic, channel, confirm, connection, exchange, queue, tx, AMQPClass};
use forebay::protocol::amqp::codec::frame::{HEADER, METHOD};
use forebay::protocol::amqp::codec::{parse, split, write, ContentHeader, Method, MethodId, Table};
use support::*;

/// Larger than any frame here.
const FRAME_MAX: u32 = 1 << 16;

/// What the other codec reads, if that is all of it.
fn theirs(bytes: &[u8]) -> Option<AMQPFrame> {
    match parse_frame(bytes) {
        Ok(([], frame)) => Some(frame),
        _ => None,
    }
}

fn written(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new())).expect("it writes what it has read").write
}

/// The fields of a method in both codecs, as text; tables by their number of fields.
fn fields(method: &Method<'_>, class: &AMQPClass) -> (String, String) {
    fn count(table: Table<'_>) -> usize {
        table.fields().count()
    }
    let ours = |words: &[&dyn std::fmt::Debug]| format!("{words:?}");
    match (method, class) {
        (Method::QueueDeclare(a), AMQPClass::Queue(queue::AMQPMethod::Declare(b))) => (
            ours(&[
                &a.queue,
                &a.passive,
                &a.durable,
                &a.exclusive,
                &a.auto_delete,
                &a.nowait,
                &count(a.arguments),
            ]),
            ours(&[
                &b.queue.as_str(),
                &b.passive,
                &b.durable,
                &b.exclusive,
                &b.auto_delete,
                &b.nowait,
                &b.arguments.inner().len(),
            ]),
        ),
        (Method::ExchangeDeclare(a), AMQPClass::Exchange(exchange::AMQPMethod::Declare(b))) => (
            ours(&[&a.exchange, &a.kind, &a.passive, &a.durable, &a.auto_delete, &a.internal, &a.nowait]),
            ours(&[
                &b.exchange.as_str(),
                &b.kind.as_str(),
                &b.passive,
                &b.durable,
                &b.auto_delete,
                &b.internal,
                &b.nowait,
            ]),
        ),
        (Method::QueueBind(a), AMQPClass::Queue(queue::AMQPMethod::Bind(b))) => (
            ours(&[&a.destination, &a.source, &a.routing_key, &a.nowait]),
            ours(&[&b.queue.as_str(), &b.exchange.as_str(), &b.routing_key.as_str().as_bytes(), &b.nowait]),
        ),
        (Method::BasicConsume(a), AMQPClass::Basic(basic::AMQPMethod::Consume(b))) => (
            ours(&[&a.queue, &a.tag, &a.no_local, &a.no_ack, &a.exclusive, &a.nowait]),
            ours(&[
                &b.queue.as_str(),
                &b.consumer_tag.as_str(),
                &b.no_local,
                &b.no_ack,
                &b.exclusive,
                &b.nowait,
            ]),
        ),
        (Method::BasicPublish(a), AMQPClass::Basic(basic::AMQPMethod::Publish(b))) => (
            ours(&[&a.exchange, &a.routing_key, &a.mandatory, &a.immediate]),
            ours(&[&b.exchange.as_str(), &b.routing_key.as_str().as_bytes(), &b.mandatory, &b.immediate]),
        ),
        (Method::BasicAck { number, multiple }, AMQPClass::Basic(basic::AMQPMethod::Ack(b))) => {
            (ours(&[number, multiple]), ours(&[&b.delivery_tag, &b.multiple]))
        }
        (Method::BasicNack { number, multiple, requeue }, AMQPClass::Basic(basic::AMQPMethod::Nack(b))) => {
            (ours(&[number, multiple, requeue]), ours(&[&b.delivery_tag, &b.multiple, &b.requeue]))
        }
        (Method::BasicReject { number, requeue }, AMQPClass::Basic(basic::AMQPMethod::Reject(b))) => {
            (ours(&[number, requeue]), ours(&[&b.delivery_tag, &b.requeue]))
        }
        (Method::BasicQos { prefetch_count, global, .. }, AMQPClass::Basic(basic::AMQPMethod::Qos(b))) => {
            (ours(&[prefetch_count, global]), ours(&[&b.prefetch_count, &b.global]))
        }
        (Method::BasicGet { queue, no_ack }, AMQPClass::Basic(basic::AMQPMethod::Get(b))) => {
            (ours(&[queue, no_ack]), ours(&[&b.queue.as_str(), &b.no_ack]))
        }
        (Method::BasicCancel { tag, nowait }, AMQPClass::Basic(basic::AMQPMethod::Cancel(b))) => {
            (ours(&[tag, nowait]), ours(&[&b.consumer_tag.as_str(), &b.nowait]))
        }
        (
            Method::ConnectionTuneOk { channel_max, frame_max, heartbeat_s },
            AMQPClass::Connection(connection::AMQPMethod::TuneOk(b)),
        ) => (
            ours(&[channel_max, frame_max, heartbeat_s]),
            ours(&[&b.channel_max, &b.frame_max, &b.heartbeat]),
        ),
        (Method::ChannelClose { code, .. }, AMQPClass::Channel(channel::AMQPMethod::Close(b))) => {
            (ours(&[code]), ours(&[&b.reply_code]))
        }
        (Method::ConfirmSelect { nowait }, AMQPClass::Confirm(confirm::AMQPMethod::Select(b))) => {
            (ours(&[nowait]), ours(&[&b.nowait]))
        }
        (Method::TxSelect, AMQPClass::Tx(tx::AMQPMethod::Select(_))) => Default::default(),
        _ => Default::default(),
    }
}

fn frames() -> Vec<Vec<u8>> {
    let nested = |queue: &str| {
        declare_with(queue, DURABLE, |table| {
            table.int("a", -7);
            table.bool("b", true);
            table.table("c", |table| table.text("d", "e"));
            table.array("f", |out| out.extend_from_slice(b"I\0\0\0\x01V"));
        })
    };
    let mut all = vec![
        start_ok("PLAIN", b"\0guest\0guest", true),
        tune_ok(1, 4096, 60),
        nested("q"),
        declare("", 31),
        exchange("x", "topic", 31),
        bind("q", "x", "a.b"),
        consume("q", "tag", 15),
        cancel("tag"),
        qos(77, true),
        ack(1 << 40, true),
        nack(3, true, false),
        nack(3, false, true),
        reject(9, true),
        get("q", true),
        publish_method("x", "key", 3),
        method(1, 20, 10, &[&[0]]),
        method(1, 20, 20, &[&[1]]),
        method(1, 20, 40, &[&[1, 0x90], &short("text"), &[0, 60, 0, 40]]),
        method(1, 20, 41, &[]),
        method(0, 10, 51, &[]),
        method(0, 10, 70, &[&long(b"secret"), &short("why")]),
        method(1, 40, 20, &[&[0, 0], &short("x"), &[3]]),
        method(1, 50, 30, &[&[0, 0], &short("q"), &[1]]),
        method(1, 50, 40, &[&[0, 0], &short("q"), &[7]]),
        method(1, 60, 110, &[&[1]]),
        method(1, 85, 10, &[&[1]]),
        method(1, 90, 10, &[]),
        method(1, 90, 20, &[]),
        method(1, 90, 30, &[]),
    ];
    for id in [30, 40] {
        all.push(method(
            1,
            40,
            id,
            &[&[0, 0], &short("to"), &short("from"), &short("k"), &[1], &table(|_| {})],
        ));
    }
    all.push(method(1, 50, 50, &[&[0, 0], &short("q"), &short("x"), &short("k"), &table(|_| {})]));
    all
}

#[test]
fn both_codecs_read_the_same_fields() {
    for bytes in frames() {
        let frame = theirs(&bytes).unwrap_or_else(|| panic!("refused by the other: {}", text(&bytes)));
        assert_eq!(written(&frame), bytes);
        let (ours, size) = split(&bytes, FRAME_MAX).unwrap().unwrap();
        let (_, method) = parse(ours.payload).unwrap();
        let AMQPFrame::Method(channel, class) = frame else { panic!("no method") };
        assert_eq!((channel, size), (ours.channel, bytes.len()));
        let (one, other) = fields(&method, &class);
        assert_eq!(one, other);
    }
}

#[test]
fn what_a_server_writes_is_read_by_the_other() {
    let id = MethodId { class: 50, method: 10 };
    let mut out = Vec::new();
    write::connection_start(&mut out, |table| {
        table.table("capabilities", |table| table.bool("basic.nack", true))
    });
    write::connection_tune(1, 2, 3, &mut out);
    write::connection_open_ok(&mut out);
    write::connection_blocked("short", &mut out);
    write::close(0, 320, "text", id, &mut out);
    write::close(5, 404, "text", id, &mut out);
    write::channel_open_ok(5, &mut out);
    write::channel_flow_ok(5, true, &mut out);
    write::queue_declare_ok(5, "q", 1, 2, &mut out);
    write::queue_count(5, 31, 7, &mut out);
    write::queue_count(5, 41, 7, &mut out);
    write::basic_tag(5, 21, "tag", &mut out);
    write::basic_cancel(5, "tag", &mut out);
    write::basic_ack(5, 9, true, &mut out);
    write::basic_nack(5, 9, false, &mut out);
    write::basic_return(5, 312, "NO_ROUTE", "x", b"k", &mut out);
    let deliver = write::Deliver {
        channel: 5,
        consumer_tag: b"tag",
        number: 3,
        redelivered: true,
        exchange: b"x",
        routing_key: b"k",
    };
    write::basic_deliver(&deliver, &mut out);
    write::basic_get_ok(&deliver, 4, &mut out);
    write::basic_get_empty(5, &mut out);
    write::content_header(5, 3, &mut out, |out| out.extend_from_slice(&[0x10, 0, 2]));
    write::content_body(5, b"abcdef", 11, &mut out);
    for (class, method) in [(10, 51), (10, 61), (20, 41), (40, 11), (50, 21), (60, 11), (85, 11), (90, 21)] {
        write::plain(5, class, method, &mut out);
    }
    let mut rest = &out[..];
    let mut count = 0;
    while !rest.is_empty() {
        let (_, size) = split(rest, FRAME_MAX).unwrap().unwrap();
        let frame = theirs(&rest[..size]).unwrap_or_else(|| panic!("refused: {}", text(&rest[..size])));
        assert_eq!(written(&frame), rest[..size]);
        rest = &rest[size..];
        count += 1;
    }
    assert_eq!(count, 30);
}

#[test]
fn damaged_frames_are_read_without_harm_and_what_ours_takes_the_other_takes() {
    let frames = frames();
    let headers = [
        header(5, 0x1000, &[2]),
        header(5, 0x2180, &[&table(|table| table.int("x", 1))[..], b"\x0260\x02id"].concat()),
    ];
    let mut state = 11u64;
    let mut random = |end: usize| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) as usize % end.max(1)
    };
    let (mut taken, mut refused) = (0, 0);
    for round in 0..200_000 {
        let mut bytes =
            if round % 4 == 0 { headers[random(2)].clone() } else { frames[random(frames.len())].clone() };
        for _ in 0..1 + random(2) {
            // Behind the size, so that the frame stays whole.
            let at = 7 + random(bytes.len() - 8);
            bytes[at] = match random(3) {
                0 => random(256) as u8,
                1 => bytes[at] ^ 1 << random(8),
                _ => [0, 1, 2, 127, 128, 255][random(6)],
            };
        }
        let Ok(Some((frame, size))) = split(&bytes, FRAME_MAX) else { continue };
        assert_eq!(size, bytes.len());
        let is_taken = match frame.kind {
            METHOD => parse(frame.payload).is_ok(),
            HEADER => ContentHeader::parse(frame.payload).is_some(),
            _ => continue,
        };
        match is_taken {
            false => refused += 1,
            true => {
                taken += 1;
                // Strings that are no UTF-8, and what may stand behind the arguments, are stricter there.
                if let Some(AMQPFrame::Method(_, class)) = theirs(&bytes) {
                    let (_, method) = parse(frame.payload).unwrap();
                    let (one, other) = fields(&method, &class);
                    assert_eq!(one, other, "{}", text(&bytes));
                }
            }
        }
    }
    assert!(taken > 10_000 && refused > 10_000, "{taken} taken, {refused} refused");
}
