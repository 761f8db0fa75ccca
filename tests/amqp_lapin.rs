//! The program with lapin, a client that shares no code with it: confirms, deliveries, delays, and what is
//! there after it was killed.

#[path = "support/program.rs"]
mod program;

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use lapin::message::Delivery;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use program::{Broker, Directory, FOREBAY};
use smol::stream::StreamExt;

/// A running broker, killed at the end.
struct Server {
    broker: Broker,
    port: u16,
}

impl Server {
    /// Starts one on a port that is free, or on that of one that is gone.
    fn start(directory: &Directory, port: Option<u16>) -> Server {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = port.unwrap_or_else(free);
        let words = ["--store-size", "8M", "--amqp", &format!("127.0.0.1:{port}")];
        Server { broker: Broker::start(directory, &words).unheard(), port }
    }

    fn kill(mut self) -> u16 {
        self.broker.kill();
        self.port
    }

    async fn connect(&self) -> Connection {
        let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port);
        Connection::connect(&url, ConnectionProperties::default()).await.unwrap()
    }

    /// A channel in confirm mode, and the connection that it is on.
    async fn channel(&self) -> (Connection, Channel) {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        (connection, channel)
    }
}

async fn declare(channel: &Channel, name: &str, arguments: FieldTable) {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, arguments).await.unwrap();
}

fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}

async fn publish(channel: &Channel, queue: &str, body: &str, properties: BasicProperties) {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sent = channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties).await;
    assert_eq!(sent.unwrap().await.unwrap(), Confirmation::Ack(None), "{body}");
}

async fn consume(channel: &Channel, queue: &str) -> Consumer {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.into(), "reader".into(), options, FieldTable::default()).await.unwrap()
}

async fn next(consumer: &mut Consumer) -> Delivery {
    consumer.next().await.expect("it goes on").unwrap()
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.data.clone()).unwrap()
}

#[test]
fn what_was_confirmed_is_there_after_a_kill_and_what_was_acknowledged_is_not() {
    let directory = Directory::new();
    let broker = Server::start(&directory, None);
    smol::block_on(async {
        let (_connection, channel) = broker.channel().await;
        declare(&channel, "work", FieldTable::default()).await;
        let mut waiting = Vec::new();
        for number in 0..200 {
            let options = BasicPublishOptions::default();
            let body = format!("m{number}");
            let sent =
                channel.basic_publish("".into(), "work".into(), options, body.as_bytes(), persistent());
            waiting.push(sent.await.unwrap());
        }
        for confirm in waiting {
            assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None));
        }
        channel.basic_qos(20, BasicQosOptions::default()).await.unwrap();
        let mut consumer = consume(&channel, "work").await;
        for number in 0..50 {
            let delivery = next(&mut consumer).await;
            assert_eq!((text(&delivery), delivery.redelivered), (format!("m{number}"), false));
            delivery.ack(BasicAckOptions::default()).await.unwrap();
        }
        // One more confirm says that all before it was heard; in time the acknowledgements are written too.
        publish(&channel, "work", "last", persistent()).await;
    });
    let port = broker.kill();
    let broker = Server::start(&directory, Some(port));
    smol::block_on(async {
        let (_connection, channel) = broker.channel().await;
        let mut consumer = consume(&channel, "work").await;
        let mut numbers = Vec::new();
        loop {
            let delivery = next(&mut consumer).await;
            let body = text(&delivery);
            delivery.ack(BasicAckOptions::default()).await.unwrap();
            if body == "last" {
                break;
            }
            numbers.push(body[1..].parse::<u32>().unwrap());
        }
        // Acknowledged ones may come again if power goes at once, and nothing is missing or out of order.
        let first = numbers[0];
        assert!(first <= 50, "{first}");
        assert_eq!(numbers, (first..200).collect::<Vec<_>>());
    });
}

#[test]
fn nack_brings_a_message_again_and_reject_makes_it_a_dead_letter() {
    let directory = Directory::new();
    let broker = Server::start(&directory, None);
    smol::block_on(async {
        let (_connection, channel) = broker.channel().await;
        declare(&channel, "dead", FieldTable::default()).await;
        let mut arguments = FieldTable::default();
        arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
        arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString("dead".into()));
        declare(&channel, "work", arguments).await;
        publish(&channel, "work", "a", persistent().with_message_id("id-1".into())).await;
        let mut consumer = consume(&channel, "work").await;
        let delivery = next(&mut consumer).await;
        let requeue = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        delivery.nack(requeue).await.unwrap();
        let delivery = next(&mut consumer).await;
        assert!(delivery.redelivered);
        delivery.reject(BasicRejectOptions { requeue: false }).await.unwrap();
        let mut dead = channel
            .basic_consume("dead".into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await
            .unwrap();
        let delivery = next(&mut dead).await;
        let properties = &delivery.properties;
        assert_eq!(properties.message_id().as_ref().map(ShortString::as_str), Some("id-1"));
        let headers = properties.headers().as_ref().expect("headers");
        let reason = headers.inner().get("x-first-death-reason");
        assert_eq!(reason, Some(&AMQPValue::LongString("rejected".into())));
        assert!(
            matches!(headers.inner().get("x-death"), Some(AMQPValue::FieldArray(deaths)) if deaths.as_slice().len() == 1)
        );
    });
}

#[test]
fn a_delay_is_kept_over_a_kill() {
    let directory = Directory::new();
    let broker = Server::start(&directory, None);
    let delay = Duration::from_millis(700);
    let published = Instant::now();
    smol::block_on(async {
        let (_connection, channel) = broker.channel().await;
        declare(&channel, "work", FieldTable::default()).await;
        let mut headers = FieldTable::default();
        headers.insert("x-delay".into(), AMQPValue::LongInt(delay.as_millis() as i32));
        publish(&channel, "work", "later", persistent().with_headers(headers)).await;
        publish(&channel, "work", "now", persistent()).await;
    });
    let port = broker.kill();
    let broker = Server::start(&directory, Some(port));
    smol::block_on(async {
        let (_connection, channel) = broker.channel().await;
        let mut consumer = consume(&channel, "work").await;
        for expected in ["now", "later"] {
            let delivery = next(&mut consumer).await;
            assert_eq!(text(&delivery), expected);
            delivery.ack(BasicAckOptions::default()).await.unwrap();
        }
    });
    assert!(published.elapsed() >= delay);
}

/// What the program says to words, and whether it did what they ask.
fn ask(directory: &Directory, words: &[&str]) -> (bool, String, String) {
    let output = Command::new(FOREBAY).args(words).current_dir(&directory.0).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// The offsets and bodies that are listed.
fn listed(directory: &Directory, words: &[&str]) -> Vec<(u64, String)> {
    let (done, lines, errors) = ask(directory, &[&["list", "work", "--json"], words].concat());
    assert!(done, "{errors}");
    let members = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    members.map(|line| (line["offset"].as_u64().unwrap(), line["body"].as_str().unwrap().into())).collect()
}

#[test]
fn what_is_delayed_is_listed_and_cancelled_for_good() {
    let directory = Directory::new();
    let broker = Server::start(&directory, None);
    let all = [("never", 1_500), ("soon", 1_600), ("once", 3_600_000), ("later", 3_600_000), ("now", 0)];
    smol::block_on(async {
        let (_connection, channel) = broker.channel().await;
        declare(&channel, "work", FieldTable::default()).await;
        for (body, delay_ms) in all {
            let mut headers = FieldTable::default();
            headers.insert("x-delay".into(), AMQPValue::LongInt(delay_ms));
            publish(&channel, "work", body, persistent().with_headers(headers)).await;
        }
    });
    let shown = |places: &[usize]| -> Vec<(u64, String)> {
        places.iter().map(|&place| (place as u64, all[place].0.to_string())).collect()
    };
    assert_eq!(listed(&directory, &[]), shown(&[0, 1, 2, 3, 4]));
    assert_eq!(listed(&directory, &["--delayed", "--from", "2"]), shown(&[2, 3]));
    assert_eq!(listed(&directory, &["--from", "1", "-n", "2"]), shown(&[1, 2]));
    let (done, lines, _) = ask(&directory, &["list", "work", "--delayed", "--from", "3"]);
    assert!(done && lines.starts_with("work#3  20") && lines.contains("  delayed until 20"), "{lines}");

    let (done, lines, errors) = ask(&directory, &["cancel", "work", "0", "7", "2"]);
    assert_eq!((done, &*lines), (false, "work#0  cancelled\nwork#2  cancelled\n"));
    assert_eq!(errors, "forebay: work#7 is not there\n");
    let port = broker.kill();
    let broker = Server::start(&directory, Some(port));
    assert_eq!(listed(&directory, &[]), shown(&[1, 3, 4]));
    smol::block_on(async {
        let (_connection, channel) = broker.channel().await;
        let mut consumer = consume(&channel, "work").await;
        for expected in ["now", "soon", "last"] {
            let delivery = next(&mut consumer).await;
            assert_eq!(text(&delivery), expected);
            if expected == "soon" {
                assert_eq!(listed(&directory, &["--in-flight"]), shown(&[1]));
                let (done, _, errors) = ask(&directory, &["cancel", "work", "1"]);
                assert_eq!((done, &*errors), (false, "forebay: work#1 is in flight, at a consumer\n"));
                publish(&channel, "work", "last", persistent()).await;
            }
            delivery.ack(BasicAckOptions::default()).await.unwrap();
        }
    });
    assert_eq!(
        ask(&directory, &["cancel", "work", "3"]),
        (true, "work#3  cancelled\n".into(), String::new())
    );
}

#[test]
fn errors_come_to_the_channel_and_leave_the_connection_alone() {
    let directory = Directory::new();
    let broker = Server::start(&directory, None);
    smol::block_on(async {
        let (connection, channel) = broker.channel().await;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let refused = channel.queue_declare("none".into(), passive, FieldTable::default()).await;
        assert!(refused.unwrap_err().to_string().contains("no queue 'none' in vhost '/'"));
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        declare(&channel, "work", FieldTable::default()).await;
        publish(&channel, "work", "a", persistent()).await;
        let got = channel.basic_get("work".into(), BasicGetOptions::default()).await.unwrap();
        assert_eq!(got.map(|message| message.data.clone()), Some(b"a".to_vec()));
    });
}
