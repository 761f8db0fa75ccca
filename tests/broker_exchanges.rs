//! Exchanges and what a delivery says of them, as transcripts.

#[path = "support/broker.rs"]
mod support;

use forebay::command::*;
use forebay::model::key::Key;
use support::Bench;

const PLAIN: ExchangeOptions<'static> = ExchangeOptions {
    kind: ExchangeKind::Fanout,
    durable: true,
    auto_delete: false,
    internal: false,
    alternate: None,
};

fn find(bench: &mut Bench, name: &str) -> Result<Reply, Refusal> {
    bench.execute(Command::FindExchange { name })
}

fn delete(bench: &mut Bench, name: &str, if_unused: bool) -> Result<Reply, Refusal> {
    bench.execute(Command::DeleteExchange { name, if_unused })
}

fn chain<'n>(from: &'n str, to: &'n str) -> Bind<'n> {
    let destination = Destination::Exchange(to);
    let (pattern, grade) = (Key::dots(b""), Grade::AtLeastOnce);
    Bind { exchange: from, destination, pattern, arguments: &[], grade }
}

fn unbind(bench: &mut Bench, from: &str, to: Destination<'_>) {
    let bind = Bind { destination: to, ..chain(from, "") };
    assert_eq!(bench.execute(Command::Unbind(bind)), Ok(Reply::Removed(1)));
}

fn to(exchange: &'static str) -> impl FnOnce(&mut Publish<'_>) {
    move |publish| publish.exchange = exchange
}

#[test]
fn find_exchange_tells_what_was_declared_also_after_a_restart() {
    let mut bench = Bench::new();
    let inner = ExchangeOptions { internal: true, auto_delete: true, alternate: Some("amq.fanout"), ..PLAIN };
    bench.exchange("inner", inner).unwrap();
    bench.exchange("passing", ExchangeOptions { durable: false, ..PLAIN }).unwrap();
    bench.settle();
    let kind = ExchangeKind::Fanout;
    let found =
        |durable, special| Ok(Reply::Exchange { kind, durable, auto_delete: special, internal: special });
    assert_eq!(find(&mut bench, "inner"), found(true, true));
    assert_eq!(find(&mut bench, "passing"), found(false, false));
    let mut bench = bench.restart();
    assert_eq!(find(&mut bench, "inner"), found(true, true));
    assert_eq!(find(&mut bench, "passing"), Err(Refusal::NoExchange));
    let other = ExchangeOptions { internal: false, ..inner };
    assert_eq!(bench.exchange("inner", other), Err(Refusal::Mismatch));
    assert!(bench.exchange("inner", inner).is_ok());
}

#[test]
fn publish_to_an_internal_exchange_is_refused_but_other_exchanges_lead_there() {
    let mut bench = Bench::new();
    bench.exchange("outer", PLAIN).unwrap();
    bench.exchange("inner", ExchangeOptions { internal: true, ..PLAIN }).unwrap();
    bench.durable_queue("q");
    bench.bind("inner", "q", Key::dots(b""), Grade::ExactlyOnce);
    bench.execute(Command::Bind(chain("outer", "inner"))).unwrap();
    assert_eq!(bench.publish_with("k", "no", to("inner")), Err(Refusal::NotAllowed));
    assert!(matches!(bench.publish_with("k", "yes", to("outer")), Ok(Reply::Published { routed: 1, .. })));
}

#[test]
fn delete_exchange_if_unused_is_refused_while_bindings_lead_from_it() {
    let mut bench = Bench::new();
    bench.exchange("x", PLAIN).unwrap();
    bench.durable_queue("q");
    bench.bind("x", "q", Key::dots(b""), Grade::ExactlyOnce);
    assert_eq!(delete(&mut bench, "x", true), Err(Refusal::InUse));
    unbind(&mut bench, "x", Destination::Queue("q"));
    assert!(delete(&mut bench, "x", true).is_ok());
    assert_eq!(delete(&mut bench, "x", true), Err(Refusal::NoExchange));
    assert_eq!(delete(&mut bench, "amq.direct", false), Err(Refusal::NotAllowed));
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding_and_not_before_its_first() {
    let mut bench = Bench::new();
    let passing = ExchangeOptions { auto_delete: true, ..PLAIN };
    bench.exchange("x", passing).unwrap();
    bench.exchange("fresh", passing).unwrap();
    for queue in ["a", "b"] {
        bench.durable_queue(queue);
        bench.bind("x", queue, Key::dots(b""), Grade::ExactlyOnce);
    }
    unbind(&mut bench, "x", Destination::Queue("a"));
    assert!(find(&mut bench, "x").is_ok());
    bench.settle();
    let mut bench = bench.restart();
    bench.execute(Command::DeleteQueue { name: "b", if_unused: false, if_empty: false }).unwrap();
    assert_eq!(find(&mut bench, "x"), Err(Refusal::NoExchange));
    bench.settle();
    let mut bench = bench.restart();
    assert_eq!(find(&mut bench, "x"), Err(Refusal::NoExchange));
    assert!(find(&mut bench, "fresh").is_ok());
}

#[test]
fn auto_delete_exchanges_go_one_after_the_other_along_their_bindings() {
    let mut bench = Bench::new();
    let passing = ExchangeOptions { auto_delete: true, ..PLAIN };
    // Declared so that the chain runs against the order of the table.
    for name in ["three", "two", "one"] {
        bench.exchange(name, passing).unwrap();
    }
    bench.exchange("stays", PLAIN).unwrap();
    bench.durable_queue("q");
    for (from, next) in [("stays", "one"), ("one", "two"), ("two", "three")] {
        bench.execute(Command::Bind(chain(from, next))).unwrap();
    }
    bench.bind("three", "q", Key::dots(b""), Grade::ExactlyOnce);
    assert!(matches!(bench.publish_with("", "m", to("stays")), Ok(Reply::Published { routed: 1, .. })));
    unbind(&mut bench, "three", Destination::Queue("q"));
    for name in ["one", "two", "three"] {
        assert_eq!(find(&mut bench, name), Err(Refusal::NoExchange), "{name}");
    }
    assert!(find(&mut bench, "stays").is_ok());
    bench.settle();
    let mut bench = bench.restart();
    assert_eq!(find(&mut bench, "one"), Err(Refusal::NoExchange));
}

#[test]
fn deliver_names_the_exchange_of_the_last_publish_or_dead_letter() {
    let mut bench = Bench::new();
    bench.exchange("readings", PLAIN).unwrap();
    bench.exchange("dead", PLAIN).unwrap();
    let dying = QueueOptions { durable: true, dead_letter_exchange: Some("dead"), ..QueueOptions::default() };
    let id = bench.queue("q", dying);
    let grave = bench.durable_queue("grave");
    bench.bind("readings", "q", Key::dots(b""), Grade::ExactlyOnce);
    bench.bind("amq.topic", "q", Key::dots(b"#"), Grade::ExactlyOnce);
    bench.bind("dead", "grave", Key::dots(b""), Grade::ExactlyOnce);
    let headers: &[u8] = &[1, b'h', 0, 0, 0];
    bench.publish("q", "by name").unwrap();
    bench.publish_with("k", "readings", to("readings")).unwrap();
    bench
        .publish_with("k.l", "topic", |publish| {
            publish.exchange = "amq.topic";
            publish.message.headers = headers;
        })
        .unwrap();
    bench.topic("k/l", "mqtt", Grade::AtLeastOnce, false);
    bench.wait(1_000);
    let mut bench = bench.restart();
    bench.consume(id, 9);
    bench.settle();
    let got = bench.take();
    let seen: Vec<_> = got.iter().map(|got| (&*got.exchange, &*got.body)).collect();
    assert_eq!(
        seen,
        [("", "by name"), ("readings", "readings"), ("amq.topic", "topic"), ("amq.topic", "mqtt")]
    );
    for got in &got {
        bench.execute(Command::Reject(got.tag.unwrap(), Rejection::DeadLetter)).unwrap();
    }
    bench.wait(1_000);
    let mut bench = bench.restart();
    bench.consume(grave, 9);
    bench.settle();
    let got = bench.take();
    let seen: Vec<_> = got.iter().map(|got| (&*got.exchange, &*got.key, &*got.body)).collect();
    assert_eq!(
        seen,
        [
            ("dead", "q", "by name"),
            ("dead", "k", "readings"),
            ("dead", "k.l", "topic"),
            ("dead", "k/l", "mqtt")
        ]
    );
    for got in &got {
        bench.execute(Command::Reject(got.tag.unwrap(), Rejection::Requeue)).unwrap();
    }
    delete(&mut bench, "dead", false).unwrap();
    bench.settle();
    assert!(bench.take().iter().all(|got| got.exchange.is_empty()), "it is gone");
}

#[test]
fn a_dead_letter_keeps_a_key_longer_than_any_of_its_own() {
    let mut bench = Bench::new();
    let dying =
        QueueOptions { durable: true, dead_letter_exchange: Some("amq.fanout"), ..QueueOptions::default() };
    let id = bench.queue("q", dying);
    let grave = bench.durable_queue("grave");
    bench.bind("amq.topic", "q", Key::dots(b"#"), Grade::ExactlyOnce);
    bench.bind("amq.fanout", "grave", Key::dots(b""), Grade::ExactlyOnce);
    let topic = "t".repeat(500);
    bench.topic(&topic, "m", Grade::AtLeastOnce, false);
    bench.consume(id, 1);
    bench.settle();
    let got = bench.take();
    bench.execute(Command::Reject(got[0].tag.unwrap(), Rejection::DeadLetter)).unwrap();
    bench.settle();
    bench.consume(grave, 1);
    bench.settle();
    let got = bench.take();
    assert_eq!((&*got[0].exchange, &*got[0].key, &*got[0].body), ("amq.fanout", &*topic, "m"));
}

#[test]
fn what_is_declared_again_waits_for_a_sync_only_if_it_is_not_on_flash_yet() {
    let mut bench = Bench::new();
    let options = QueueOptions { durable: true, ..QueueOptions::default() };
    let declare = |bench: &mut Bench| {
        let declared = bench.execute(Command::DeclareQueue { name: "q", options });
        let Ok(Reply::Queue { durable_at, .. }) = declared else { panic!("{declared:?}") };
        let (exchange, destination, pattern) = ("amq.topic", Destination::Queue("q"), Key::dots(b"k"));
        let bind = Bind { exchange, destination, pattern, arguments: &[], grade: Grade::ExactlyOnce };
        let Ok(Reply::Done(bound_at)) = bench.execute(Command::Bind(bind)) else { panic!("a binding") };
        let durable = ExchangeOptions { durable: true, ..ExchangeOptions::default() };
        let Ok(Reply::Done(made_at)) = bench.exchange("e", durable) else { panic!("an exchange") };
        [durable_at, bound_at, made_at]
    };
    let first = declare(&mut bench);
    let again = declare(&mut bench);
    let durable = bench.broker.durable();
    assert!(first.iter().chain(&again).all(|&at| at > durable), "{first:?} {again:?} {durable}");
    bench.settle();
    let durable = bench.broker.durable();
    assert!(declare(&mut bench).iter().all(|&at| at <= durable));
    assert!(bench.broker.tail() <= durable, "nothing was written");
}
