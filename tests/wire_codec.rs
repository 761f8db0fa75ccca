//! The frames of Forebay's own protocol: every frame's bytes written out, so that another language can
//! be held to them, and bytes that are no frames.

use forebay::wire::frame::*;
use forebay::wire::{is_name, seal, unwrap, Assembler, Frame, Seed};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn sealed(frame: &Frame<'_>, seed: Seed) -> Vec<u8> {
    let mut out = vec![0; 70_000];
    let len = seal(frame, seed, &mut out).expect("it fits");
    out.truncate(len);
    out
}

/// A device nonce of 0x01020304 and a gateway nonce of 0x0a0b0c0d.
fn session() -> Seed {
    Seed::session(0x0102_0304, 0x0a0b_0c0d)
}

fn hello() -> Hello<'static> {
    Hello {
        version: 1,
        nonce: 0x0102_0304,
        device: "pump-7",
        secret: Bytes(b"s3cret"),
        window: 4,
        max_frame: 512,
        clean: false,
        keep_alive_s: 30,
    }
}

/// The table: seed, frame, the bytes on the line without the zero that ends them.
fn vectors() -> Vec<(Seed, Frame<'static>, &'static str)> {
    let (greeting, answer, inside) = (Seed::GREETING, Seed::answer(0x0102_0304), session());
    let welcome = Welcome {
        version: 1,
        nonce: 0x0a0b_0c0d,
        window: 64,
        max_frame: 4096,
        time_ms: 1_790_000_000_000,
        is_dated: true,
        is_resumed: false,
    };
    let publish = Publish {
        flags: flag::DATED,
        sequence: 300,
        distance: 1,
        time_ms: -1500,
        topic: "plant/7/temp",
        options: None,
        body: Bytes(b"21.5"),
    };
    let options = Options { ttl_ms: 60_000, delay_ms: 0, priority: 9 };
    let deliver = Deliver {
        number: 2,
        distance: 1,
        flags: flag::RETAIN,
        time_ms: 12,
        topic: "plant/7/set",
        body: Bytes(&[1, 0, 2]),
    };
    let subscribe = Subscribe { request: 1, pattern: "plant/7/#", retained: true };
    vec![
        (greeting, Frame::Hello(hello()), VECTORS[0]),
        (answer, Frame::Welcome(welcome), VECTORS[1]),
        (greeting, Frame::Error(Code::Unauthorized), VECTORS[2]),
        (greeting, Frame::Who, VECTORS[3]),
        (inside, Frame::Ping { token: 1000 }, VECTORS[4]),
        (inside, Frame::Pong(Pong { token: 1000, time_ms: 1_790_000_000_123, upto: 0 }), VECTORS[5]),
        (inside, Frame::Credit { window: 0 }, VECTORS[6]),
        (inside, Frame::Open(Open { lane: 0, epoch: 0xdead_beef, settled: 299 }), VECTORS[7]),
        (inside, Frame::Publish(publish), VECTORS[8]),
        (
            inside,
            Frame::Publish(Publish { options: Some(options), flags: 6, time_ms: 0, ..publish }),
            VECTORS[9],
        ),
        (inside, Frame::Confirm { lane: 0, upto: 300 }, VECTORS[10]),
        (
            inside,
            Frame::Again(Again { lane: 2, upto: 7, after_ms: 500, code: Some(Code::Full) }),
            VECTORS[11],
        ),
        (inside, Frame::Reject { lane: 0, sequence: 9, code: Code::Forbidden }, VECTORS[12]),
        (inside, Frame::Subscribe(subscribe), VECTORS[13]),
        (inside, Frame::Unsubscribe(subscribe), VECTORS[14]),
        (inside, Frame::Granted { request: 1, refused: None }, VECTORS[15]),
        (inside, Frame::Deliver(deliver), VECTORS[16]),
        (inside, Frame::Ack { upto: 2 }, VECTORS[17]),
        (inside, Frame::Nack(Nack { upto: 2, seen: 3, verdict: Verdict::Delay(1000) }), VECTORS[18]),
    ]
}

const VECTORS: [&str; 19] = [
    "011701848688080670756d702d3706733363726574048004061e37c2ff4b",
    "1101018d98ac5040802080d8c1a28c34010524fe8d63",
    "0702013fc44f24",
    "0603a5a02d41",
    "0804e807d0c56039",
    "0a05e807fbd8c1a28c3405886d0107",
    "020605367912b1",
    "02070ceffdb6f50dab0214a4d45e",
    "150808ac0201b7170c706c616e742f372f74656d700a0432312e357cf6a5cd",
    "060806ac0201120c706c616e742f372f74656d7001e0d4030b090432312e35ac835a55",
    "020907ac02f41a6388",
    "0c0a0207f4030106a884e493",
    "020b070903265a0f1c",
    "120c0109706c616e742f372f2301bc91abfb",
    "120d0109706c616e742f372f2301d9a979cb",
    "030e0105c3497d6f",
    "140f020104180b706c616e742f372f736574030106023002dbd3",
    "07100272a92306",
    "0b11020301e8077a168be2",
];

#[test]
fn every_frame_has_the_bytes_of_the_table() {
    for (number, (seed, frame, bytes)) in vectors().into_iter().enumerate() {
        let mut line = sealed(&frame, seed);
        assert_eq!(line.pop(), Some(0));
        assert_eq!(hex(&line), bytes, "vector {number}: {frame:?}");
        let mut line = unhex(bytes);
        let opened = unwrap(&mut line).expect("it is a frame");
        assert!(opened.checks(seed), "vector {number}");
        assert_eq!(opened.frame(), Some(frame), "vector {number}");
    }
}

/// What is on the line of a frame sealed for the greeting, without checksum.
fn body(frame: &Frame<'_>) -> Vec<u8> {
    let mut line = sealed(frame, Seed::GREETING);
    line.pop();
    let mut coded = line;
    let len = forebay::wire::cobs::decode(&mut coded).unwrap();
    coded[..len - 4].to_vec()
}

/// The frame in a body, by way of the line.
fn read(body: &[u8]) -> Option<String> {
    let sum = crc32c(body).to_le_bytes();
    let mut line = vec![0; 2 * body.len() + 10];
    let mut coder = forebay::wire::cobs::Coder::new(&mut line);
    body.iter().chain(&sum).for_each(|&byte| assert!(coder.push(byte)));
    let len = coder.finish().unwrap();
    let opened = unwrap(&mut line[..len - 1]).unwrap();
    assert!(opened.checks(Seed::GREETING));
    opened.frame().map(|frame| format!("{frame:?}"))
}

/// The checksum, a bit at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(
            sum ^ u32::from(byte),
            |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 },
        )
    })
}

#[test]
fn every_frame_is_written_and_read_as_postcard_does() {
    let mut frames: Vec<Frame<'_>> = vectors().into_iter().map(|(_, frame, _)| frame).collect();
    frames.extend(Code::ALL.map(Frame::Error));
    frames.push(Frame::Nack(Nack { upto: u32::MAX, seen: 0, verdict: Verdict::DeadLetter }));
    frames.push(Frame::Nack(Nack { upto: 0, seen: u32::MAX, verdict: Verdict::Again }));
    frames.push(Frame::Confirm { lane: 255, upto: u64::MAX });
    let mut buffer = [0; 400];
    for frame in &frames {
        let theirs = postcard::to_slice(frame, &mut buffer).unwrap().to_vec();
        assert_eq!(body(frame), theirs, "{frame:?}");
        for end in 0..=theirs.len() {
            let own = read(&theirs[..end]);
            assert_eq!(own, expected(&theirs[..end]), "{frame:?} cut at {end}");
        }
        for place in 0..theirs.len() {
            for bits in 1..=255 {
                let mut damaged = theirs.clone();
                damaged[place] ^= bits;
                assert_eq!(read(&damaged), expected(&damaged), "{frame:?} {place} {bits}");
            }
        }
    }
}

fn expected(body: &[u8]) -> Option<String> {
    postcard::from_bytes::<Frame<'_>>(body).ok().map(|frame| format!("{frame:?}"))
}

/// Any bytes at all: no panic, and no frame without its checksum.
#[test]
fn bytes_that_are_no_frames_are_refused() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let whole: Vec<Vec<u8>> = vectors().iter().map(|(seed, frame, _)| sealed(frame, *seed)).collect();
    let mut accepted = 0;
    for round in 0..200_000u32 {
        let mut bytes = whole[next() as usize % whole.len()].clone();
        bytes.pop();
        for _ in 0..1 + next() % 4 {
            let at = next() as usize % bytes.len();
            match next() % 4 {
                0 => bytes[at] ^= 1 << (next() % 8),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, next() as u8),
                _ => bytes[at] = next() as u8,
            }
        }
        if whole.iter().any(|frame| frame[..frame.len() - 1] == bytes[..]) {
            continue;
        }
        let Some(opened) = unwrap(&mut bytes) else { continue };
        let _ = opened.frame();
        let seeds = [Seed::GREETING, Seed::answer(0x0102_0304), session()];
        accepted += u32::from(seeds.iter().any(|&seed| opened.checks(seed)));
        assert!(accepted < 2, "round {round}: damage goes unseen more often than by chance");
    }
}

#[test]
fn what_decodes_by_chance_never_panics() {
    let mut state = 1u32;
    for _ in 0..200_000 {
        let bytes: Vec<u8> = (0..state % 40)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        state = state.wrapping_add(1);
        assert_eq!(read(&bytes), expected(&bytes));
        let mut line = bytes;
        let _ = unwrap(&mut line).map(|sealed| sealed.frame().is_some());
    }
}

#[test]
fn a_frame_of_another_session_does_not_check() {
    let mut line = sealed(&Frame::Ack { upto: 2 }, session());
    line.pop();
    let opened = unwrap(&mut line).unwrap();
    assert!(opened.checks(session()));
    for seed in
        [Seed::GREETING, Seed::answer(0x0102_0304), Seed::session(0x0102_0304, 1), Seed::session(1, 2)]
    {
        assert!(!opened.checks(seed));
    }
}

#[test]
fn fields_and_frames_of_a_later_version_are_passed_over() {
    let longer = [16, 2, 99, 99];
    assert_eq!(read(&longer), Some("Ack { upto: 2 }".to_string()));
    assert_eq!(read(&[60, 1, 2, 3]), None);
}

#[test]
fn a_reader_is_right_again_at_the_next_zero() {
    let mut line = sealed(&Frame::Ack { upto: 1 }, session())[3..].to_vec();
    line.extend([7; 600]);
    line.extend([0, 0]);
    line.extend(sealed(&Frame::Ack { upto: 2 }, session()));
    let mut buffer = [0; 512];
    let mut assembler = Assembler::new(&mut buffer);
    let mut got = Vec::new();
    for byte in line {
        if assembler.push(byte) {
            let Some(opened) = assembler.take() else { continue };
            if opened.checks(session()) {
                got.push(format!("{:?}", opened.frame().unwrap()));
            }
        }
    }
    assert_eq!(got, ["Ack { upto: 2 }"]);
}

#[test]
fn a_message_of_64_bytes_costs_14_bytes_on_the_line_besides_its_topic() {
    let publish = Publish {
        flags: 0,
        sequence: 100,
        distance: 1,
        time_ms: 0,
        topic: "t",
        options: None,
        body: Bytes(&[0x55; 64]),
    };
    let plain = sealed(&Frame::Publish(publish), session()).len();
    assert_eq!(plain - 64 - publish.topic.len(), 14);
    let dated = Publish { flags: flag::DATED, sequence: 100_000, time_ms: 3_600_000, ..publish };
    assert_eq!(sealed(&Frame::Publish(dated), session()).len() - 64 - publish.topic.len(), 19);
}

#[test]
fn a_frame_that_does_not_fit_is_not_written() {
    let mut small = [0; 10];
    assert_eq!(seal(&Frame::Hello(hello()), Seed::GREETING, &mut small), None);
}

#[test]
fn names_are_short_and_plain() {
    assert!(is_name("pump-7_a.B"));
    for bad in ["", "a/b", "a b", "é", "#", &"x".repeat(65)] {
        assert!(!is_name(bad), "{bad}");
    }
}
