//! Between protocols: MQTT's topics are routing keys of amq.topic.

use crate::support::*;
use forebay::protocol::mqtt::codec::*;

fn packet(packet: Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.append(Version::V311, &mut bytes).unwrap();
    bytes
}

fn mqtt(world: &mut World, filter: Option<&str>) -> u64 {
    let peer = world.open_mqtt();
    world.say(
        peer,
        &packet(Packet::Connect(Connect {
            version: Version::V311,
            clean_start: true,
            keep_alive_s: 0,
            client_id: "sensor",
            will: None,
            user_name: None,
            password: None,
            properties: Properties::NONE,
        })),
    );
    if let Some(filter) = filter {
        let options = SubscribeOptions { qos: Qos::AtLeastOnce, ..SubscribeOptions::default() };
        let list = [Subscription { filter, options }];
        let filters = Subscriptions::list(&list);
        let packet_id = PacketId::new(9).unwrap();
        let subscribe = Subscribe { packet_id, properties: Properties::NONE, filters };
        world.say(peer, &packet(Packet::Subscribe(subscribe)));
    }
    world.bytes(peer);
    peer
}

fn publish_mqtt(topic: &str, qos: Qos, payload: &str) -> Vec<u8> {
    packet(Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.as_bytes(),
        packet_id: PacketId::new(1).filter(|_| qos != Qos::AtMostOnce),
        properties: Properties::NONE,
        payload: payload.as_bytes(),
    }))
}

#[test]
fn a_topic_is_a_routing_key_of_amq_topic() {
    let mut world = World::new();
    let (sensor, service) = (mqtt(&mut world, None), world.connect());
    for frame in [declare("q", DURABLE), bind("q", "amq.topic", "plant.*.#"), consume("q", "c", 2)] {
        world.say(service, &frame);
    }
    world.got(service);
    world.say(sensor, &publish_mqtt("plant/line7/a.b", Qos::AtLeastOnce, "21"));
    assert_eq!(world.got(service), ["1 deliver c 1 amq.topic:plant.line7.a/b 21"]);
    world.say(sensor, &publish_mqtt("plant/line7", Qos::AtMostOnce, "22"));
    assert_eq!(world.got(service), ["1 deliver c 2 amq.topic:plant.line7 {1000 \\x01} 22"]);
}

#[test]
fn and_back() {
    let mut world = World::new();
    let (display, service) = (mqtt(&mut world, Some("plant/+/speed")), world.connect());
    let headers = table(|table| table.text("unit", "rpm"));
    let list = [&short("text/plain")[..], &headers, &[2]].concat();
    world.say(service, &publish_with("amq.topic", "plant.line7.speed", 0, (0xb000, &list), "900"));
    world.say(service, &publish("amq.topic", "plant.line7.other", "no"));
    let bytes = world.bytes(display);
    let (got, size) = decode(&bytes, Version::V311, u32::MAX).unwrap().unwrap();
    let Packet::Publish(publish) = got else { panic!("{got:?}") };
    assert_eq!((publish.topic, publish.payload), (&b"plant/line7/speed"[..], &b"900"[..]));
    assert_eq!((publish.qos, size), (Qos::AtLeastOnce, bytes.len()));
}

#[test]
fn the_queue_of_an_mqtt_session_is_a_queue_like_any_other() {
    let mut world = World::new();
    let (display, service) = (mqtt(&mut world, Some("a")), world.connect());
    world.say(service, &declare("mqtt.sensor", PASSIVE));
    assert_eq!(world.got(service), ["1 queue.declare-ok mqtt.sensor 0 1"]);
    world.say(service, &publish("", "mqtt.sensor", "straight"));
    let bytes = world.bytes(display);
    assert!(bytes.ends_with(b"straight"), "{bytes:?}");
}
