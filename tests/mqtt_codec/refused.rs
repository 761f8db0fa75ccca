//! What the decoder and the encoder refuse, and why.

use forebay::protocol::mqtt::codec::*;

use crate::{error, generate, id, BOTH, NO_LIMIT};
use DecodeError as E;
use Version::{V311, V5};

/// Bytes, the version they are read in, and what is wrong.
fn table(rows: &[(Version, &[u8], DecodeError)]) {
    for (version, bytes, wanted) in rows {
        assert_eq!(error(bytes, *version), Some(*wanted), "{version:?} {bytes:02X?}");
    }
}

#[test]
fn fixed_headers_are_refused_before_their_body_is_here() {
    for version in BOTH {
        table(&[
            (version, b"\x00", E::ReservedType),
            (version, b"\x36", E::QosThree),
            (version, b"\x3E", E::QosThree),
            (version, b"\x38", E::DupWithQosZero),
            (version, b"\x11", E::ReservedFlags),
            (version, b"\x42", E::ReservedFlags),
            (version, b"\x60", E::ReservedFlags),
            (version, b"\x80", E::ReservedFlags),
            (version, b"\xA0", E::ReservedFlags),
            (version, b"\xC1", E::ReservedFlags),
            (version, b"\x30\xFF\xFF\xFF\xFF", E::RemainingLength),
        ]);
    }
    table(&[(V311, b"\xF0", E::ReservedType), (V5, b"\x30\x80\x00", E::RemainingLength)]);
    assert_eq!(decode(b"\x30\x84\x00", V311, NO_LIMIT), Ok(None));
}

#[test]
fn every_first_byte_is_judged_by_the_table_of_flags() {
    for version in BOTH {
        for first in 0..=255u8 {
            let flags = first & 15;
            let fine = match first >> 4 {
                0 => false,
                3 => flags & 6 != 6 && flags & 14 != 8,
                6 | 8 | 10 => flags == 2,
                15 => flags == 0 && version == V5,
                _ => flags == 0,
            };
            assert_eq!(error(&[first], version).is_none(), fine, "{first:02X}");
        }
    }
}

#[test]
fn size_limit_counts_the_whole_packet() {
    let bytes = b"\x30\x05\0\x03a/b";
    assert!(matches!(decode(bytes, V311, 7), Ok(Some((_, 7)))));
    assert_eq!(decode(bytes, V311, 6), Err(E::TooLarge));
    assert_eq!(decode(&bytes[..2], V311, 6), Err(E::TooLarge));
    assert_eq!(decode(&bytes[..2], V311, 7), Ok(None));
    assert_eq!(decode(&puback(id(1)), V5, 3), Err(E::TooLarge));
    assert!(matches!(decode(&puback(id(1)), V5, 4), Ok(Some((_, 4)))));
    assert_eq!(packet_size(&bytes[..2], V311, 7), Ok(Some(7)));
    assert_eq!(packet_size(&bytes[..1], V311, 7), Ok(None));
    assert_eq!(packet_size(b"\x30\xFF\xFF\xFF\x7F", V5, NO_LIMIT), Ok(Some(268_435_460)));
}

#[test]
fn connect() {
    table(&[
        (V311, b"\x10\x0C\0\x04MQTT\x04\x03\0\0\0\0", E::ConnectFlags),
        (V311, b"\x10\x0C\0\x04MQTT\x04\x08\0\0\0\0", E::WillFlags),
        (V311, b"\x10\x0C\0\x04MQTT\x04\x20\0\0\0\0", E::WillFlags),
        (V311, b"\x10\x0C\0\x04MQTT\x04\x1C\0\0\0\0", E::WillFlags),
        (V311, b"\x10\x0E\0\x04MQTT\x04\x40\0\0\0\0\0\0", E::PasswordWithoutUser),
        (V311, b"\x10\x0C\0\x04MQTt\x04\x02\0\0\0\0", E::ProtocolName),
        (V311, b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\0\0", E::TrailingBytes),
        (V311, b"\x10\x0C\0\x04MQTT\x04\x02\0\0\0\x01", E::Truncated),
        (V311, b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01\0", E::NullCharacter),
        (V311, b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01\xFF", E::NotUtf8),
        (V311, b"\x10\x0F\0\x04MQTT\x04\x02\0\0\0\x03\xED\xA0\x80", E::NotUtf8),
        (V311, b"\x10\x0C\0\x04MQTT\x05\x02\0\0\0\0", E::Truncated),
        (V311, b"\x10\x11\0\x04MQTT\x04\x06\0\0\0\0\0\x01#\0\0", E::TopicName),
        (V311, b"\x10\x10\0\x04MQTT\x04\x06\0\0\0\0\0\0\0\0", E::TopicName),
        // The remaining length is judged by the version in the body.
        (V311, b"\x10\x8D\0\0\x04MQTT\x05\x02\0\0\0\0\0", E::RemainingLength),
        (V5, b"\x10\x13\0\x04MQTT\x05\x02\0\0\x06\x16\0\x03key\0\0", E::AuthMethodMissing),
    ]);
    assert!(error(b"\x10\x8C\0\0\x04MQTT\x04\x02\0\0\0\0", V5).is_none());
}

#[test]
fn other_protocol_levels_are_named_so_that_they_can_be_answered() {
    let three = error(b"\x10\x0E\0\x06MQIsdp\x03\x02\0\0\0\0", V311).expect("refused");
    assert_eq!((three, three.refusal()), (E::ProtocolLevel(3), Some(V311)));
    let six = error(b"\x10\x0C\0\x04MQTT\x06\x02\0\0\0\0", V311).expect("refused");
    assert_eq!((six, six.refusal()), (E::ProtocolLevel(6), Some(V5)));
    let bridge = error(b"\x10\x0C\0\x04MQTT\x84\x02\0\0\0\0", V311).expect("refused");
    assert_eq!((bridge, bridge.refusal()), (E::ProtocolLevel(0x84), Some(V311)));
    assert_eq!(six.reason_code(), Reason::UnsupportedProtocolVersion);
    assert_eq!(E::TopicName.refusal(), None);
}

#[test]
fn connack() {
    table(&[
        (V311, b"\x20\x02\x02\x00", E::ConnAckFlags),
        (V311, b"\x20\x02\x01\x05", E::ConnAckFlags),
        (V311, b"\x20\x02\x00\x06", E::ReasonCode),
        (V311, b"\x20\x03\x00\x00\x00", E::TrailingBytes),
        (V5, b"\x20\x03\x00\x01\x00", E::ReasonCode),
        (V5, b"\x20\x03\x00\x92\x00", E::ReasonCode),
        (V5, b"\x20\x02\x00\x00", E::Truncated),
    ]);
}

#[test]
fn publish() {
    table(&[
        (V311, b"\x30\x02\0\0", E::TopicName),
        (V311, b"\x30\x05\0\x03a/#", E::TopicName),
        (V311, b"\x30\x0B\0\x09abcdefgh+", E::TopicName),
        (V311, b"\x30\x05\0\x03a\0b", E::NullCharacter),
        (V311, b"\x30\x04\0\x02\xC3\x28", E::NotUtf8),
        (V311, b"\x30\x04\0\x03ab", E::Truncated),
        (V311, b"\x32\x05\0\x01a\0\0", E::PacketIdZero),
        (V311, b"\x32\x04\0\x01a\0", E::Truncated),
        (V5, b"\x30\x03\0\0\0", E::TopicMissing),
        (V5, b"\x30\x03\0\x01a", E::Truncated),
        (V5, b"\x30\x07\0\x01a\x03\x23\0\0", E::TopicAlias),
        (V5, b"\x30\x06\0\x01a\x02\x01\x02", E::PropertyValue),
        (V5, b"\x30\x06\0\x01a\x02\x0B\x00", E::PropertyValue),
        (V5, b"\x30\x08\0\x01a\x04\x08\0\x01+", E::TopicName),
        (V5, b"\x30\x05\0\x01a\x01\x7E", E::PropertyUnknown),
        (V5, b"\x30\x07\0\x01a\x03\x21\0\x01", E::PropertyMisplaced),
        (V5, b"\x30\x08\0\x01a\x04\x01\0\x01\0", E::PropertyTwice),
        (V5, b"\x30\x05\0\x01a\x80\0", E::VarInt),
        (V5, b"\x30\x05\0\x01a\x02\x01", E::Truncated),
        (V5, b"\x30\x05\0\x01a\x01\x01", E::Truncated),
    ]);
}

#[test]
fn acknowledgements() {
    table(&[
        (V311, b"\x40\x02\0\0", E::PacketIdZero),
        (V311, b"\x40\x01\0", E::Truncated),
        (V311, b"\x40\x03\0\x01\0", E::TrailingBytes),
        (V5, b"\x40\x03\0\x01\x92", E::ReasonCode),
        (V5, b"\x62\x03\0\x01\x10", E::ReasonCode),
        (V5, b"\x40\x05\0\x01\0\0\0", E::TrailingBytes),
        (V5, b"\x40\x05\0\x01\0\x02\x1F", E::Truncated),
        (V311, b"\xC0\x01\0", E::TrailingBytes),
        (V5, b"\xD0\x01\0", E::TrailingBytes),
        (V311, b"\xE0\x01\0", E::TrailingBytes),
        (V5, b"\xE0\x01\x01", E::ReasonCode),
        (V5, b"\xF0\x01\x18", E::Truncated),
        (V5, b"\xF0\x02\x18\0", E::AuthMethodMissing),
        (V5, b"\xF0\x05\x18\x03\x16\0\0", E::AuthMethodMissing),
    ]);
}

#[test]
fn subscriptions() {
    table(&[
        (V311, b"\x82\x02\0\x01", E::NoEntries),
        (V5, b"\x82\x03\0\x01\0", E::NoEntries),
        (V311, b"\xA2\x02\0\x01", E::NoEntries),
        (V311, b"\x82\x06\0\0\0\x01a\0", E::PacketIdZero),
        (V311, b"\x82\x06\0\x01\0\x01a\x03", E::QosThree),
        (V311, b"\x82\x06\0\x01\0\x01a\x04", E::SubscribeOptions),
        (V5, b"\x82\x07\0\x01\0\0\x01a\x30", E::SubscribeOptions),
        (V5, b"\x82\x07\0\x01\0\0\x01a\x40", E::SubscribeOptions),
        (V311, b"\x82\x05\0\x01\0\x01a", E::Truncated),
        (V311, b"\x82\x05\0\x01\0\0\0", E::TopicFilter),
        (V5, b"\x82\x10\0\x01\0\0\x0A$share/g/a\x04", E::NoLocalShared),
        (V5, b"\x82\x0E\0\x01\0\0\x08$share/g\0", E::ShareName),
        (V5, b"\x82\x12\0\x01\0\0\x0C$share/g/a#b\0", E::TopicFilter),
        (V311, b"\x90\x02\0\x01", E::NoEntries),
        (V311, b"\x90\x03\0\x01\x03", E::ReasonCode),
        (V5, b"\x90\x04\0\x01\0\x11", E::ReasonCode),
        (V5, b"\xB0\x03\0\x01\0", E::NoEntries),
        (V311, b"\xB0\x03\0\x01\0", E::TrailingBytes),
    ]);
}

#[test]
fn each_property_stands_only_where_the_table_has_it() {
    const SCOPES: [Scope; 9] = [
        Scope::Connect,
        Scope::Will,
        Scope::ConnAck,
        Scope::Publish,
        Scope::Answer,
        Scope::Subscribe,
        Scope::Unsubscribe,
        Scope::Disconnect,
        Scope::Auth,
    ];
    let identifiers: Vec<u8> = (0..=0x2A)
        .filter(|identifier| SCOPES.iter().any(|s| generate::allowed(*s).contains(identifier)))
        .collect();
    assert_eq!(identifiers.len(), 27);
    for identifier in identifiers {
        let property = generate::one_property(identifier);
        assert_eq!(property.id(), identifier);
        let bytes = property_bytes(property);
        for scope in SCOPES {
            let read = Properties::parse(&bytes, scope).err();
            let wanted = match generate::allowed(scope).contains(&identifier) {
                false => Some(E::PropertyMisplaced),
                true if scope == Scope::Auth && identifier != 0x15 => Some(E::AuthMethodMissing),
                true if scope == Scope::Connect && identifier == 0x16 => Some(E::AuthMethodMissing),
                true => None,
            };
            assert_eq!(read, wanted, "{property:?} in {scope:?}");
            let twice = Properties::parse(&[&*bytes, &*bytes].concat(), scope).err();
            let repeats = identifier == 0x26 || (identifier == 0x0B && scope == Scope::Publish);
            if wanted.is_none() {
                assert_eq!(twice, (!repeats).then_some(E::PropertyTwice), "{property:?} in {scope:?}");
            }
        }
    }
}

/// A property's bytes, from a head that is written without being judged.
fn property_bytes(property: Property<'_>) -> Vec<u8> {
    let list = [property];
    let publish = Publish {
        dup: false,
        qos: Qos::AtMostOnce,
        retain: false,
        topic: b"t",
        packet_id: None,
        properties: Properties::list(&list),
        payload: b"",
    };
    let mut head = vec![0; publish.head_len(V5).expect("fits")];
    publish.encode_head(V5, &mut head).expect("fits");
    // First byte, remaining length, topic of three bytes, length of the properties.
    head.split_off(6)
}

#[test]
fn the_encoder_refuses_what_the_decoder_would() {
    let publish = Publish {
        dup: false,
        qos: Qos::AtMostOnce,
        retain: false,
        topic: b"t",
        packet_id: None,
        properties: Properties::NONE,
        payload: b"",
    };
    let fails = |packet: Packet<'_>, version, wanted| {
        assert_eq!(packet.encoded_len(version), Err(wanted), "{packet:?}");
        assert_eq!(packet.encode(version, &mut [0; 99]), Err(wanted));
        let mut out = vec![7];
        assert_eq!(packet.append(version, &mut out), Err(wanted));
        assert_eq!(out, [7]);
    };
    let invalid = EncodeError::Invalid;
    let p = Packet::Publish;
    fails(p(Publish { topic: b"a/#", ..publish }), V5, invalid(E::TopicName));
    fails(p(Publish { topic: b"", ..publish }), V5, invalid(E::TopicMissing));
    fails(p(Publish { topic: &[b'x'; 65_536], ..publish }), V5, EncodeError::TooLong);
    fails(p(Publish { packet_id: Some(id(1)), ..publish }), V5, invalid(E::PacketIdZero));
    fails(p(Publish { qos: Qos::AtLeastOnce, ..publish }), V311, invalid(E::PacketIdZero));
    fails(p(Publish { dup: true, ..publish }), V311, invalid(E::DupWithQosZero));
    let list = [Property::TopicAlias(1)];
    fails(p(Publish { properties: Properties::list(&list), ..publish }), V311, EncodeError::NotInVersion);
    let list = [Property::ReceiveMaximum(1)];
    fails(p(Publish { properties: Properties::list(&list), ..publish }), V5, invalid(E::PropertyMisplaced));
    let list = [Property::ContentType("a\0")];
    fails(p(Publish { properties: Properties::list(&list), ..publish }), V5, invalid(E::NullCharacter));
    fails(Packet::PubAck(Ack::because(id(1), Reason::QuotaExceeded)), V311, EncodeError::NotInVersion);
    fails(Packet::PubRel(Ack::because(id(1), Reason::QuotaExceeded)), V5, invalid(E::ReasonCode));
    fails(Packet::Disconnect(Disconnect::because(Reason::ServerBusy)), V311, EncodeError::NotInVersion);
    let step = Auth { reason: Reason::ContinueAuthentication, properties: Properties::NONE };
    fails(Packet::Auth(step), V5, invalid(E::AuthMethodMissing));
    fails(Packet::Auth(step), V311, EncodeError::NotInVersion);
    let filters = Subscriptions::list(&[]);
    let subscribe = Subscribe { packet_id: id(1), properties: Properties::NONE, filters };
    fails(Packet::Subscribe(subscribe), V5, invalid(E::NoEntries));
    let options = SubscribeOptions { no_local: true, ..SubscribeOptions::default() };
    let list = [Subscription { filter: "a", options }];
    let filters = Subscriptions::list(&list);
    fails(Packet::Subscribe(Subscribe { filters, ..subscribe }), V311, EncodeError::NotInVersion);
}

#[test]
fn a_buffer_too_small_is_told_how_much_is_needed() {
    for version in BOTH {
        let mut random = generate::Random::new(3);
        for _ in 0..200 {
            let packet = generate::packet(&mut random, version);
            let needed = packet.encoded_len(version).expect("valid");
            for room in [0, 1, needed / 2, needed - 1] {
                let mut out = vec![0xEE; room];
                assert_eq!(packet.encode(version, &mut out), Err(EncodeError::NoRoom { needed }));
                assert!(out.iter().all(|&byte| byte == 0xEE));
            }
            let mut out = vec![0xEE; needed + 3];
            assert_eq!(packet.encode(version, &mut out), Ok(needed));
            assert_eq!(out[needed..], [0xEE; 3]);
        }
    }
}

#[test]
fn reasons_are_told_in_the_words_of_either_version() {
    for code in 0..=255u8 {
        assert_eq!(Reason::from_code(code).map_or(code, Reason::code), code);
        if let Some(words) = ConnectReturn::from_code(code) {
            assert_eq!(words.code(), code);
            assert_eq!(words.reason().connect_return(), Some(words));
        }
    }
    let known = (0..=255u8).filter_map(Reason::from_code).count();
    assert_eq!(known, 43);
    assert_eq!(Reason::Banned.connect_return(), Some(ConnectReturn::NotAuthorized));
    assert_eq!(Reason::MalformedPacket.connect_return(), None);
    assert!(Reason::Unspecified.is_failure() && !Reason::GrantedQos2.is_failure());
    assert_eq!(E::TooLarge.reason_code(), Reason::PacketTooLarge);
    assert_eq!(E::PropertyTwice.reason_code(), Reason::ProtocolError);
    assert_eq!(E::Truncated.reason_code(), Reason::MalformedPacket);
    assert_eq!(E::Truncated.to_string(), E::Truncated.text());
}
