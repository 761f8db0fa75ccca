//! The packets of the specifications' own examples and tables, byte for byte.

use forebay::protocol::mqtt::codec::*;

use crate::{encoded, id, whole, BOTH, NO_LIMIT};

/// These bytes are this packet, and this packet is these bytes.
fn same(version: Version, bytes: &[u8], packet: Packet<'_>) {
    assert_eq!(whole(bytes, version), packet);
    assert_eq!(encoded(&packet, version), bytes, "{packet:?}");
}

fn entry(filter: &str, qos: Qos) -> Subscription<'_> {
    Subscription { filter, options: SubscribeOptions { qos, ..SubscribeOptions::default() } }
}

fn message(topic: &str) -> Publish<'_> {
    Publish {
        dup: false,
        qos: Qos::AtMostOnce,
        retain: false,
        topic: topic.as_bytes(),
        packet_id: None,
        properties: Properties::NONE,
        payload: b"",
    }
}

#[test]
fn connect_with_will_and_credentials_311() {
    let will = Will {
        topic: b"w/t",
        payload: b"gone",
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: Properties::NONE,
    };
    let connect = Connect {
        version: Version::V311,
        clean_start: true,
        keep_alive_s: 10,
        client_id: "me",
        will: Some(will),
        user_name: Some("u"),
        password: Some(b"\0\xFF"),
        properties: Properties::NONE,
    };
    let bytes = b"\x10\x20\0\x04MQTT\x04\xCE\0\x0A\0\x02me\0\x03w/t\0\x04gone\0\x01u\0\x02\0\xFF";
    same(Version::V311, bytes, Packet::Connect(connect));
    // The packet tells its version, whatever the reader expected.
    assert_eq!(whole(bytes, Version::V5), Packet::Connect(connect));
}

#[test]
fn connect_with_properties_5() {
    let will = Will {
        topic: b"w",
        payload: b"",
        qos: Qos::ExactlyOnce,
        retain: true,
        properties: Properties::list(&[Property::WillDelay(5)]),
    };
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 10,
        client_id: "",
        will: Some(will),
        user_name: None,
        password: Some(b"key"),
        properties: Properties::list(&[Property::SessionExpiry(10), Property::ReceiveMaximum(20)]),
    };
    let bytes = b"\x10\x25\0\x04MQTT\x05\x76\0\x0A\x08\x11\0\0\0\x0A\x21\0\x14\0\0\
        \x05\x18\0\0\0\x05\0\x01w\0\0\0\x03key";
    same(Version::V5, bytes, Packet::Connect(connect));
    let Packet::Connect(read) = whole(bytes, Version::V311) else { panic!("not a connect") };
    assert_eq!(read.version, Version::V5);
    assert_eq!((read.properties.session_expiry(), read.properties.receive_maximum()), (Some(10), Some(20)));
    assert_eq!(read.will.and_then(|will| will.properties.will_delay()), Some(5));
    assert_eq!(read.properties.topic_alias_maximum(), None);
}

#[test]
fn connack() {
    let ack = |session_present, reason| {
        Packet::ConnAck(ConnAck { session_present, reason, properties: Properties::NONE })
    };
    same(Version::V311, b"\x20\x02\x01\x00", ack(true, Reason::Success));
    same(Version::V311, b"\x20\x02\x00\x01", ack(false, Reason::UnsupportedProtocolVersion));
    same(Version::V311, b"\x20\x02\x00\x05", ack(false, Reason::NotAuthorized));
    assert_eq!(encoded(&ack(false, Reason::ServerBusy), Version::V311), b"\x20\x02\x00\x03");
    same(Version::V5, b"\x20\x03\x00\x84\x00", ack(false, Reason::UnsupportedProtocolVersion));
    let list = [
        Property::ServerKeepAlive(60),
        Property::AssignedClientId("x1"),
        Property::TopicAliasMaximum(10),
        Property::MaximumQos(Qos::AtLeastOnce),
        Property::SharedAvailable(true),
    ];
    let properties = Properties::list(&list);
    same(
        Version::V5,
        b"\x20\x12\x01\x00\x0F\x13\0\x3C\x12\0\x02x1\x22\0\x0A\x24\x01\x2A\x01",
        Packet::ConnAck(ConnAck { session_present: true, reason: Reason::Success, properties }),
    );
}

#[test]
fn publish_with_identifier() {
    let example =
        Publish { qos: Qos::AtLeastOnce, packet_id: Some(id(10)), payload: b"hi", ..message("a/b") };
    same(Version::V311, b"\x32\x09\0\x03a/b\0\x0Ahi", Packet::Publish(example));
    same(Version::V5, b"\x32\x0A\0\x03a/b\0\x0A\0hi", Packet::Publish(example));
    let again = Publish { dup: true, retain: true, qos: Qos::ExactlyOnce, ..example };
    same(Version::V311, b"\x3D\x09\0\x03a/b\0\x0Ahi", Packet::Publish(again));
}

#[test]
fn publish_without_identifier() {
    same(Version::V311, b"\x30\x05\0\x03a/b", Packet::Publish(message("a/b")));
    same(Version::V5, b"\x31\x06\0\x03a/b\0", Packet::Publish(Publish { retain: true, ..message("a/b") }));
}

#[test]
fn publish_by_alias() {
    let list = [Property::TopicAlias(7), Property::User(("k", "v")), Property::User(("k", "w"))];
    let publish = Publish { properties: Properties::list(&list), payload: b"p", ..message("") };
    let bytes = b"\x30\x15\0\0\x11\x23\0\x07\x26\0\x01k\0\x01v\x26\0\x01k\0\x01wp";
    same(Version::V5, bytes, Packet::Publish(publish));
    let Packet::Publish(read) = whole(bytes, Version::V5) else { panic!("not a publish") };
    assert_eq!(read.properties.topic_alias(), Some(7));
    assert_eq!(read.properties.user().collect::<Vec<_>>(), [("k", "v"), ("k", "w")]);
}

#[test]
fn acknowledgements_of_four_bytes_are_the_same_in_both_versions() {
    let ack = Ack::success(id(0x1234));
    for version in BOTH {
        same(version, b"\x40\x02\x12\x34", Packet::PubAck(ack));
        same(version, b"\x50\x02\x12\x34", Packet::PubRec(ack));
        same(version, b"\x62\x02\x12\x34", Packet::PubRel(ack));
        same(version, b"\x70\x02\x12\x34", Packet::PubComp(ack));
    }
    assert_eq!(puback(id(0x1234)), *b"\x40\x02\x12\x34");
    assert_eq!(pubrec(id(0x1234)), *b"\x50\x02\x12\x34");
    assert_eq!(pubrel(id(0x1234)), *b"\x62\x02\x12\x34");
    assert_eq!(pubcomp(id(0x1234)), *b"\x70\x02\x12\x34");
}

#[test]
fn acknowledgements_with_reason() {
    let short = Ack::because(id(1), Reason::QuotaExceeded);
    same(Version::V5, b"\x40\x03\0\x01\x97", Packet::PubAck(short));
    let list = [Property::ReasonString("no")];
    let long = Ack { properties: Properties::list(&list), ..Ack::because(id(1), Reason::PacketIdNotFound) };
    same(Version::V5, b"\x70\x09\0\x01\x92\x05\x1F\0\x02no", Packet::PubComp(long));
    // Written out where it could be left out.
    assert_eq!(whole(b"\x40\x03\0\x01\x00", Version::V5), Packet::PubAck(Ack::success(id(1))));
    assert_eq!(whole(b"\x40\x04\0\x01\x00\x00", Version::V5), Packet::PubAck(Ack::success(id(1))));
}

#[test]
fn subscribe_with_two_filters() {
    let list = [entry("a/b", Qos::AtLeastOnce), entry("c/d", Qos::ExactlyOnce)];
    let subscribe =
        Subscribe { packet_id: id(10), properties: Properties::NONE, filters: Subscriptions::list(&list) };
    same(Version::V311, b"\x82\x0E\0\x0A\0\x03a/b\x01\0\x03c/d\x02", Packet::Subscribe(subscribe));
    same(Version::V5, b"\x82\x0F\0\x0A\0\0\x03a/b\x01\0\x03c/d\x02", Packet::Subscribe(subscribe));
}

#[test]
fn subscribe_with_options_5() {
    let options = SubscribeOptions {
        qos: Qos::AtLeastOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    let list = [Subscription { filter: "#", options }];
    let subscribe = Subscribe {
        packet_id: id(1),
        properties: Properties::list(&[Property::SubscriptionIdentifier(SubscriptionId(200))]),
        filters: Subscriptions::list(&list),
    };
    let bytes = b"\x82\x0A\0\x01\x03\x0B\xC8\x01\0\x01#\x2D";
    same(Version::V5, bytes, Packet::Subscribe(subscribe));
}

#[test]
fn suback() {
    let answer =
        |codes| Answer { packet_id: id(10), properties: Properties::NONE, reasons: Reasons::codes(codes) };
    same(Version::V311, b"\x90\x05\0\x0A\x00\x02\x80", Packet::SubAck(answer(&[0, 2, 0x80])));
    same(Version::V5, b"\x90\x06\0\x0A\0\x01\x8F\xA2", Packet::SubAck(answer(&[1, 0x8F, 0xA2])));
    let read: Vec<_> = answer(&[1, 0x8F]).reasons.iter().collect();
    assert_eq!(read, [Reason::GrantedQos1, Reason::TopicFilterInvalid]);
    same(Version::V311, b"\xB0\x02\0\x0A", Packet::UnsubAck(answer(&[])));
    same(Version::V5, b"\xB0\x05\0\x0A\0\x00\x11", Packet::UnsubAck(answer(&[0, 0x11])));
}

#[test]
fn unsubscribe_with_two_filters() {
    let unsubscribe = Unsubscribe {
        packet_id: id(10),
        properties: Properties::NONE,
        filters: Filters::list(&["a/b", "c/d"]),
    };
    same(Version::V311, b"\xA2\x0C\0\x0A\0\x03a/b\0\x03c/d", Packet::Unsubscribe(unsubscribe));
    same(Version::V5, b"\xA2\x0D\0\x0A\0\0\x03a/b\0\x03c/d", Packet::Unsubscribe(unsubscribe));
}

#[test]
fn pings_and_goodbyes() {
    for version in BOTH {
        same(version, &PINGREQ, Packet::PingReq);
        same(version, &PINGRESP, Packet::PingResp);
        same(version, &DISCONNECT, Packet::Disconnect(Disconnect::because(Reason::Success)));
    }
    let moved = Disconnect {
        reason: Reason::UseAnotherServer,
        properties: Properties::list(&[Property::ServerReference("b")]),
    };
    same(Version::V5, b"\xE0\x01\x8E", Packet::Disconnect(Disconnect::because(Reason::SessionTakenOver)));
    same(Version::V5, b"\xE0\x06\x9C\x04\x1C\0\x01b", Packet::Disconnect(moved));
    assert_eq!(
        whole(b"\xE0\x02\x00\x00", Version::V5),
        Packet::Disconnect(Disconnect::because(Reason::Success))
    );
}

#[test]
fn auth() {
    let step = Auth {
        reason: Reason::ContinueAuthentication,
        properties: Properties::list(&[Property::AuthMethod("m"), Property::AuthData(b"\0\x01")]),
    };
    same(Version::V5, b"\xF0\x0B\x18\x09\x15\0\x01m\x16\0\x02\0\x01", Packet::Auth(step));
    let done = Auth { reason: Reason::Success, properties: Properties::NONE };
    same(Version::V5, b"\xF0\0", Packet::Auth(done));
}

#[test]
fn one_packet_of_many_is_read_at_a_time() {
    let mut rest: &[u8] = b"\xC0\0\x40\x02\0\x01\x30\x05\0\x03a/b\xE0";
    let mut kinds = Vec::new();
    while let Ok(Some((packet, used))) = decode(rest, Version::V311, NO_LIMIT) {
        kinds.push(packet.kind());
        rest = &rest[used..];
    }
    assert_eq!(kinds, [PacketType::PingReq, PacketType::PubAck, PacketType::Publish]);
    assert_eq!(rest, b"\xE0");
}

#[test]
fn head_and_payload_are_the_packet() {
    for version in BOTH {
        let mut random = crate::generate::Random::new(5);
        for _ in 0..500 {
            let publish = crate::generate::publish(&mut random, version);
            let whole = encoded(&Packet::Publish(publish), version);
            let mut head = vec![0; publish.head_len(version).expect("fits")];
            assert_eq!(publish.encode_head(version, &mut head), Ok(head.len()));
            assert_eq!([&head, publish.payload].concat(), whole);
            let short = head.len() - 1;
            let needed = head.len();
            assert_eq!(publish.encode_head(version, &mut head[..short]), Err(EncodeError::NoRoom { needed }));
            let (mut appended, mut apart) = (vec![1], vec![1]);
            publish.append(version, &mut appended).expect("fits");
            publish.append_head(version, &mut apart).expect("fits");
            assert_eq!(appended[1..], whole);
            assert_eq!(apart[1..], head);
        }
    }
}

#[test]
fn properties_are_passed_on_with_ones_own_behind() {
    let bytes = b"\x30\x0C\0\x01t\x08\x26\0\x02ab\0\x01c";
    let Packet::Publish(came) = whole(bytes, Version::V5) else { panic!("not a publish") };
    let own = [Property::SubscriptionIdentifier(SubscriptionId(9))];
    let goes = Publish { properties: came.properties.with(&own), ..came };
    let written = encoded(&Packet::Publish(goes), Version::V5);
    assert_eq!(written, b"\x30\x0E\0\x01t\x0A\x26\0\x02ab\0\x01c\x0B\x09");
    assert_eq!(Properties::parse(came.properties.raw(), Scope::Publish), Ok(came.properties));
    let twice = [Property::ContentType("x"), Property::ContentType("x")];
    let wrong = Packet::Publish(Publish { properties: came.properties.with(&twice), ..came });
    assert_eq!(wrong.encoded_len(Version::V5), Err(EncodeError::Invalid(DecodeError::PropertyTwice)));
}
