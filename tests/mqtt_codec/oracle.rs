//! Differential tests against `mqtt-protocol-core` and `mqtt5-protocol`.
//!
//! Each oracle reads our bytes and writes them again from what it understood: the same bytes
//! mean the same fields in both, and that we read what they write. Where an oracle is known to
//! differ, `judge` says how, and the other one stands alone.

use forebay::protocol::mqtt::codec::*;
use mqtt5_protocol::packet as five;
use mqtt5_protocol::packet::MqttPacket;
use mqtt_protocol_core::mqtt::packet::{self as core_packet, v3_1_1, v5_0};
use std::sync::Arc;

use crate::generate::{self, Random};
use crate::{encoded, id, whole, BOTH};

/// First byte and body; the remaining length is minimal.
fn split(bytes: &[u8]) -> (u8, &[u8]) {
    let width = bytes[1..].iter().position(|&byte| byte < 0x80).expect("ends") + 1;
    (bytes[0], &bytes[1 + width..])
}

/// What `mqtt-protocol-core` writes after it read these bytes; none if it refuses them.
pub fn core_codec(bytes: &[u8], version: Version) -> Option<Vec<u8>> {
    let (first, body) = split(bytes);
    macro_rules! again {
        ($parsed:expr) => {{
            let (packet, used) = $parsed.ok()?;
            (used == body.len()).then(|| packet.to_continuous_buffer())
        }};
    }
    macro_rules! by_type {
        ($room:ident) => {
            match first >> 4 {
                1 => again!($room::Connect::parse(body)),
                2 => again!($room::Connack::parse(body)),
                3 => again!($room::Publish::parse(first & 15, Arc::from(body))),
                4 => again!($room::Puback::parse(body)),
                5 => again!($room::Pubrec::parse(body)),
                6 => again!($room::Pubrel::parse(body)),
                7 => again!($room::Pubcomp::parse(body)),
                8 => again!($room::Subscribe::parse(body)),
                9 => again!($room::Suback::parse(body)),
                10 => again!($room::Unsubscribe::parse(body)),
                11 => again!($room::Unsuback::parse(body)),
                12 => again!($room::Pingreq::parse(body)),
                13 => again!($room::Pingresp::parse(body)),
                14 => again!($room::Disconnect::parse(body)),
                _ => None,
            }
        };
    }
    match version {
        Version::V311 => by_type!(v3_1_1),
        Version::V5 if first >> 4 == 15 => again!(v5_0::Auth::parse(body)),
        Version::V5 => by_type!(v5_0),
    }
}

/// What `mqtt5-protocol` writes after it read these bytes; none if it refuses them.
pub fn five_codec(bytes: &[u8], version: Version) -> Option<Vec<u8>> {
    let mut rest = bytes;
    let header = five::FixedHeader::decode(&mut rest).ok()?;
    let level = version.level();
    let kind = header.packet_type;
    let packet = five::Packet::decode_from_body_with_version(kind, &header, &mut rest, level).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    match packet {
        five::Packet::Connect(packet) => packet.encode(&mut out),
        five::Packet::ConnAck(packet) => packet.encode(&mut out),
        five::Packet::Publish(packet) => packet.encode(&mut out),
        five::Packet::PubAck(packet) => packet.encode(&mut out),
        five::Packet::PubRec(packet) => packet.encode(&mut out),
        five::Packet::PubRel(packet) => packet.encode(&mut out),
        five::Packet::PubComp(packet) => packet.encode(&mut out),
        five::Packet::Subscribe(packet) => packet.encode(&mut out),
        five::Packet::SubAck(packet) => packet.encode(&mut out),
        five::Packet::Unsubscribe(packet) => packet.encode(&mut out),
        five::Packet::UnsubAck(packet) => packet.encode(&mut out),
        five::Packet::PingReq => five::pingreq::PingReqPacket::default().encode(&mut out),
        five::Packet::PingResp => five::pingresp::PingRespPacket::default().encode(&mut out),
        five::Packet::Disconnect(packet) => packet.encode(&mut out),
        five::Packet::Auth(packet) => packet.encode(&mut out),
    }
    .ok()?;
    Some(out)
}

/// A packet without its properties, and these in the order of their identifiers: the second
/// oracle keeps them in a map.
fn unordered<'a>(packet: Packet<'a>) -> (Packet<'a>, Vec<Property<'a>>, Vec<Property<'a>>) {
    let mut packet = packet;
    let mut will = Properties::NONE;
    let properties = match &mut packet {
        Packet::Connect(connect) => {
            will = connect.will.as_mut().map(|will| std::mem::take(&mut will.properties)).unwrap_or_default();
            &mut connect.properties
        }
        Packet::ConnAck(ack) => &mut ack.properties,
        Packet::Publish(publish) => &mut publish.properties,
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            &mut ack.properties
        }
        Packet::Subscribe(subscribe) => &mut subscribe.properties,
        Packet::Unsubscribe(unsubscribe) => &mut unsubscribe.properties,
        Packet::SubAck(answer) | Packet::UnsubAck(answer) => &mut answer.properties,
        Packet::Disconnect(disconnect) => &mut disconnect.properties,
        Packet::Auth(auth) => &mut auth.properties,
        Packet::PingReq | Packet::PingResp => return (packet, Vec::new(), Vec::new()),
    };
    let sorted = |properties: Properties<'a>| {
        let mut list: Vec<_> = properties.iter().collect();
        list.sort_by_key(Property::id);
        list
    };
    let own = sorted(std::mem::take(properties));
    (packet, own, sorted(will))
}

/// What 5 allows and neither oracle does: a password alone (3.1.2.9), and a bad authentication
/// method in a DISCONNECT (2.4 has it, the table of 3.14.2.1 has not).
pub fn beyond_oracles(packet: &Packet<'_>) -> bool {
    match packet {
        Packet::Connect(connect) => connect.user_name.is_none() && connect.password.is_some(),
        Packet::Disconnect(disconnect) => disconnect.reason == Reason::BadAuthenticationMethod,
        _ => false,
    }
}

fn judge(packet: &Packet<'_>, version: Version) {
    let bytes = encoded(packet, version);
    assert_eq!(whole(&bytes, version), *packet);
    if beyond_oracles(packet) {
        return;
    }
    assert_eq!(core_codec(&bytes, version).as_deref(), Some(&*bytes), "core: {packet:?}");
    let again = five_codec(&bytes, version).unwrap_or_else(|| panic!("five: {packet:?}"));
    assert_eq!(unordered(whole(&again, version)), unordered(*packet), "five");
}

#[test]
fn what_we_write_both_oracles_read_and_write_again() {
    for version in BOTH {
        let mut random = Random::new(1);
        for _ in 0..3_000 {
            judge(&generate::packet(&mut random, version), version);
        }
    }
}

fn core_qos(qos: Qos) -> core_packet::Qos {
    match qos {
        Qos::AtMostOnce => core_packet::Qos::AtMostOnce,
        Qos::AtLeastOnce => core_packet::Qos::AtLeastOnce,
        Qos::ExactlyOnce => core_packet::Qos::ExactlyOnce,
    }
}

/// The publish, built field by field with the first oracle.
fn core_publish(publish: &Publish<'_>, version: Version) -> Vec<u8> {
    let topic = std::str::from_utf8(publish.topic).expect("text");
    macro_rules! build {
        ($room:ident) => {{
            let mut builder = $room::Publish::builder()
                .topic_name(topic)
                .expect("topic")
                .qos(core_qos(publish.qos))
                .dup(publish.dup)
                .retain(publish.retain)
                .payload(publish.payload);
            if let Some(packet_id) = publish.packet_id {
                builder = builder.packet_id(packet_id.get());
            }
            builder
        }};
    }
    match version {
        Version::V311 => build!(v3_1_1).build().expect("valid").to_continuous_buffer(),
        Version::V5 => {
            let alias = core_packet::TopicAlias::new(publish.properties.topic_alias().unwrap_or(1));
            let expiry = core_packet::MessageExpiryInterval::new(7);
            let properties = vec![
                core_packet::Property::TopicAlias(alias.expect("not zero")),
                core_packet::Property::MessageExpiryInterval(expiry.expect("any")),
            ];
            build!(v5_0).props(properties).build().expect("valid").to_continuous_buffer()
        }
    }
}

#[test]
fn publishes_the_first_oracle_builds_have_the_fields_it_was_given() {
    for version in BOTH {
        let mut random = Random::new(2);
        for _ in 0..500 {
            let given = generate::publish(&mut random, version);
            if given.topic.is_empty() {
                continue;
            }
            let bytes = core_publish(&given, version);
            let alias = given.properties.topic_alias().unwrap_or(1);
            let list = [Property::TopicAlias(alias), Property::MessageExpiry(7)];
            let properties = if version == Version::V5 { Properties::list(&list) } else { Properties::NONE };
            let wanted = Packet::Publish(Publish { properties, ..given });
            assert_eq!(whole(&bytes, version), wanted);
            assert_eq!(encoded(&wanted, version), bytes);
        }
    }
}

#[test]
fn connects_the_first_oracle_builds_have_the_fields_it_was_given() {
    let mut random = Random::new(4);
    for _ in 0..500 {
        let (clean, retain) = (random.flag(), random.flag());
        let qos = random.pick(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]);
        macro_rules! built {
            ($room:ident) => {
                $room::Connect::builder()
                    .client_id("client")
                    .and_then(|b| b.will_message("w/t", b"gone", core_qos(qos), retain))
                    .and_then(|b| b.user_name("user"))
                    .and_then(|b| b.password(b"secret"))
                    .expect("valid")
                    .clean_start(clean)
                    .keep_alive(300)
                    .build()
                    .expect("valid")
                    .to_continuous_buffer()
            };
        }
        for (version, bytes) in [(Version::V311, built!(v3_1_1)), (Version::V5, built!(v5_0))] {
            let properties = Properties::NONE;
            let wanted = Packet::Connect(Connect {
                version,
                clean_start: clean,
                keep_alive_s: 300,
                client_id: "client",
                will: Some(Will { topic: b"w/t", payload: b"gone", qos, retain, properties }),
                user_name: Some("user"),
                password: Some(b"secret"),
                properties,
            });
            assert_eq!(whole(&bytes, version), wanted);
            assert_eq!(encoded(&wanted, version), bytes);
        }
    }
}

#[test]
fn subscribes_the_second_oracle_builds_have_the_fields_it_was_given() {
    use five::subscribe::{RetainHandling as Handling, SubscribePacket, SubscriptionOptions, TopicFilter};
    for bits in 0..36 {
        let (qos, no_local, as_published, handling) =
            (bits % 3, bits / 3 % 2 == 1, bits / 6 % 2 == 1, bits / 12);
        let options = SubscriptionOptions {
            qos: [
                mqtt5_protocol::QoS::AtMostOnce,
                mqtt5_protocol::QoS::AtLeastOnce,
                mqtt5_protocol::QoS::ExactlyOnce,
            ][qos],
            no_local,
            retain_as_published: as_published,
            retain_handling: [Handling::SendAtSubscribe, Handling::SendAtSubscribeIfNew, Handling::DoNotSend]
                [handling],
        };
        let mut packet = SubscribePacket::new(77);
        packet.filters =
            vec![TopicFilter::with_options("a/+", options), TopicFilter::with_options("#", options)];
        let mut bytes = Vec::new();
        packet.encode(&mut bytes).expect("valid");
        let options = SubscribeOptions {
            qos: Qos::from_bits(qos as u8).expect("not 3"),
            no_local,
            retain_as_published: as_published,
            retain_handling: [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]
                [handling],
        };
        let list = [Subscription { filter: "a/+", options }, Subscription { filter: "#", options }];
        let filters = Subscriptions::list(&list);
        let wanted =
            Packet::Subscribe(Subscribe { packet_id: id(77), properties: Properties::NONE, filters });
        assert_eq!(whole(&bytes, Version::V5), wanted);
        assert_eq!(encoded(&wanted, Version::V5), bytes);
    }
}
