//! Damaged packets: whatever the bytes, the codec stays within them and says the same.

use forebay::protocol::mqtt::codec::*;

use crate::generate::{self, Random};
use crate::{encoded, oracle, BOTH, NO_LIMIT};

/// Changes a packet's bytes in one to three places.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let place = random.below(bytes.len().max(1));
        match random.below(7) {
            _ if bytes.is_empty() => bytes.push(random.next() as u8),
            0 => bytes[place] ^= 1 << random.below(8),
            1 => bytes[place] = random.next() as u8,
            2 => bytes[place] = random.pick(&[0, 1, 2, 3, 0x7F, 0x80, 0xFF, b'+', b'#', b'/', b'$', 0x26]),
            3 => bytes.insert(place, random.next() as u8),
            4 => drop(bytes.remove(place)),
            5 => bytes.truncate(place),
            _ => bytes.extend_from_within(place..(place + 8).min(bytes.len())),
        }
    }
}

/// Makes the remaining length true again, so that the damage is found within the body.
fn repair_length(bytes: &mut Vec<u8>) {
    let width = bytes.iter().skip(1).position(|&byte| byte < 0x80).map_or(bytes.len(), |at| at + 2);
    let body = bytes.split_off(width.min(bytes.len()));
    bytes.truncate(1);
    let mut length = body.len();
    while length > 0x7F {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(body);
}

/// What must hold of a packet that was read: written and read again it is the same.
fn check_fixpoint(packet: &Packet<'_>, version: Version) {
    // A connect brings its version.
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let once = encoded(packet, version);
    let again = decode(&once, version, NO_LIMIT);
    assert_eq!(again, Ok(Some((*packet, once.len()))));
    if let Ok(Some((again, _))) = again {
        assert_eq!(encoded(&again, version), once);
    }
    let mut appended = Vec::new();
    assert_eq!(packet.append(version, &mut appended), Ok(()));
    assert_eq!(appended, once);
}

fn check(bytes: &[u8], version: Version, prefixes: bool) -> bool {
    let result = decode(bytes, version, NO_LIMIT);
    let used = match &result {
        Ok(Some((packet, used))) => {
            check_fixpoint(packet, version);
            assert_eq!(packet_size(bytes, version, NO_LIMIT), Ok(Some(*used)));
            assert_eq!(decode(&bytes[..*used], version, NO_LIMIT), result);
            let behind = [&bytes[..*used], b"\xFF\0\x30\xFF"].concat();
            assert_eq!(decode(&behind, version, NO_LIMIT), result);
            *used
        }
        _ => bytes.len(),
    };
    if prefixes {
        for end in 0..used {
            match decode(&bytes[..end], version, NO_LIMIT) {
                Ok(None) => {}
                Err(error) => assert_eq!(Err(error), result, "{bytes:02X?} up to {end}"),
                Ok(Some(_)) => panic!("{bytes:02X?} is whole at {end}"),
            }
        }
    }
    matches!(result, Ok(Some(_)))
}

#[test]
fn damaged_packets_are_refused_or_read_consistently() {
    for version in BOTH {
        let mut random = Random::new(17);
        let mut read = 0;
        for round in 0..60_000 {
            let packet = generate::packet(&mut random, version);
            let mut bytes = encoded(&packet, version);
            if bytes.len() > 300 {
                continue;
            }
            damage(&mut bytes, &mut random);
            if random.flag() && !bytes.is_empty() {
                repair_length(&mut bytes);
            }
            let other = if version == Version::V5 { Version::V311 } else { Version::V5 };
            read += usize::from(check(&bytes, version, round % 4 == 0));
            check(&bytes, other, false);
        }
        assert!(read > 1_000, "{read} read");
    }
}

#[test]
fn random_bytes_are_refused_or_read_consistently() {
    let mut random = Random::new(19);
    for _ in 0..60_000 {
        let length = random.below(40);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        if random.below(4) != 0 && length > 2 {
            repair_length(&mut bytes);
        }
        for version in BOTH {
            check(&bytes, version, true);
        }
    }
}

/// A packet both other codecs refuse is not read by this one.
#[test]
fn nothing_is_read_that_both_oracles_refuse() {
    for version in BOTH {
        let mut random = Random::new(23);
        let mut compared = 0;
        for _ in 0..60_000 {
            let mut bytes = encoded(&generate::packet(&mut random, version), version);
            damage(&mut bytes, &mut random);
            if bytes.is_empty() {
                continue;
            }
            repair_length(&mut bytes);
            let Ok(Some((packet, _))) = decode(&bytes, version, NO_LIMIT) else { continue };
            let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
            if oracle::beyond_oracles(&packet) {
                continue;
            }
            let known = oracle::core_codec(&bytes, version).or_else(|| oracle::five_codec(&bytes, version));
            assert!(known.is_some(), "{version:?} {bytes:02X?}: {packet:?}");
            compared += 1;
        }
        assert!(compared > 1_000, "{compared} compared");
    }
}
