//! The MQTT codec against the specification's words, against two other codecs, and against
//! thousands of damaged packets. Random packets come from fixed seeds.

#[path = "mqtt_codec/fuzz.rs"]
mod fuzz;
#[path = "mqtt_codec/generate.rs"]
mod generate;
#[path = "mqtt_codec/oracle.rs"]
mod oracle;
#[path = "mqtt_codec/refused.rs"]
mod refused;
#[path = "mqtt_codec/text.rs"]
mod text;
#[path = "mqtt_codec/transcripts.rs"]
mod transcripts;

use forebay::protocol::mqtt::codec::{decode, DecodeError, Packet, PacketId, Version};

/// No limit of our own.
const NO_LIMIT: u32 = u32::MAX;

const BOTH: [Version; 2] = [Version::V311, Version::V5];

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not zero")
}

/// The packet these bytes are, all of them.
fn whole(bytes: &[u8], version: Version) -> Packet<'_> {
    match decode(bytes, version, NO_LIMIT) {
        Ok(Some((packet, used))) => {
            assert_eq!(used, bytes.len(), "used of {bytes:02X?}");
            packet
        }
        other => panic!("{version:?} {bytes:02X?}: {other:?}"),
    }
}

fn error(bytes: &[u8], version: Version) -> Option<DecodeError> {
    decode(bytes, version, NO_LIMIT).err()
}

fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut bytes = vec![0xEE; packet.encoded_len(version).unwrap_or_else(|e| panic!("{packet:?}: {e:?}"))];
    assert_eq!(packet.encode(version, &mut bytes), Ok(bytes.len()), "{packet:?}");
    bytes
}
