//! Topic names, filters and how they match.

use forebay::protocol::mqtt::codec::*;
use mqtt5_protocol::topic_matching;

use crate::generate::Random;
use Version::{V311, V5};

#[test]
fn topic_names_are_judged_alike_at_every_length_and_place() {
    for length in 0..40 {
        let name = vec![b'n'; length];
        let fine = if length == 0 { Err(DecodeError::TopicName) } else { Ok(()) };
        assert_eq!(topic_name(&name), fine);
        for place in 0..length {
            for (byte, wanted) in [
                (b'+', Err(DecodeError::TopicName)),
                (b'#', Err(DecodeError::TopicName)),
                (0, Err(DecodeError::NullCharacter)),
                (0x80, Err(DecodeError::NotUtf8)),
                (0xFF, Err(DecodeError::NotUtf8)),
                (1, Ok(())),
                (0x7F, Ok(())),
                (b'$', Ok(())),
                (b'"', Ok(())),
                (b',', Ok(())),
                (b'*', Ok(())),
            ] {
                let mut name = name.clone();
                name[place] = byte;
                assert_eq!(topic_name(&name), wanted, "{byte:02X} at {place} of {length}");
            }
        }
    }
}

#[test]
fn topic_names_of_random_bytes_are_judged_as_the_rules_say() {
    const BYTES: [u8; 12] = [0, 1, b'"', b'#', b'$', b'+', b',', b'/', b'a', 0x7F, 0xC3, 0xA9];
    let mut random = Random::new(11);
    for _ in 0..20_000 {
        let tame = random.flag();
        let length = random.below(24);
        let name: Vec<u8> = (0..length)
            .map(|_| if tame && random.below(16) != 0 { b'a' } else { random.pick(&BYTES) })
            .collect();
        let wanted = match std::str::from_utf8(&name) {
            Err(_) => Err(DecodeError::NotUtf8),
            Ok(text) if text.contains('\0') => Err(DecodeError::NullCharacter),
            Ok(text) if text.is_empty() || text.contains(['+', '#']) => Err(DecodeError::TopicName),
            Ok(_) => Ok(()),
        };
        assert_eq!(topic_name(&name), wanted, "{name:02X?}");
    }
}

#[test]
fn filters_of_the_specification() {
    let fine = [
        "sport/tennis/player1/#",
        "sport/#",
        "#",
        "sport/tennis/#",
        "+",
        "+/tennis/#",
        "sport/+/player1",
        "/",
        "/finance",
        "+/+",
        "//",
        "$SYS/#",
        "$share",
        "$shared/a",
        "$share/consumer1/sport/tennis/+",
        "$share/g//finance",
        "$share/g/#",
    ];
    let wrong = ["", "sport/tennis#", "sport/tennis/#/ranking", "sport+", "+a/b", "##", "#/", "a/+#"];
    for version in [V311, V5] {
        for filter in fine {
            assert_eq!(topic_filter(filter.as_bytes(), version), Ok(filter));
        }
        for filter in wrong {
            assert_eq!(topic_filter(filter.as_bytes(), version), Err(DecodeError::TopicFilter), "{filter}");
        }
    }
    for filter in ["$share/", "$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/g+/a"] {
        assert_eq!(topic_filter(filter.as_bytes(), V5), Err(DecodeError::ShareName), "{filter}");
    }
    assert_eq!(topic_filter(b"$share/g/a#", V5), Err(DecodeError::TopicFilter));
    assert_eq!(topic_filter(b"$share/g/", V311), Ok("$share/g/"));
}

#[test]
fn shared_subscriptions_split_into_group_and_filter() {
    assert_eq!(split_share("$share/g/a/b"), Some(("g", "a/b")));
    assert_eq!(split_share("$share/g//b"), Some(("g", "/b")));
    assert_eq!(split_share("$share/g/"), None);
    assert_eq!(split_share("$share/a"), None);
    assert_eq!(split_share("share/g/a"), None);
}

#[test]
fn matching_examples_of_the_specification() {
    let rows: [(&str, &str, bool); 22] = [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$SYS/a", false),
        ("+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("$SYS/#", "$SYS/a", true),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
        ("a/#", "a/$b", true),
        ("ACCOUNTS", "Accounts", false),
        ("/a", "a", false),
        ("a", "a/", false),
        ("#", "a//b", true),
        ("a/+/b", "a//b", true),
        ("a/b", "a/b", true),
    ];
    for (filter, topic, wanted) in rows {
        assert_eq!(match_filter(filter.as_bytes(), topic.as_bytes()), wanted, "{filter} {topic}");
    }
}

#[test]
fn matching_agrees_with_the_oracle() {
    const LEVELS: [&str; 6] = ["a", "b", "", "$c", "+", "#"];
    let mut random = Random::new(13);
    let (mut tried, mut matched) = (0, 0);
    while tried < 5_000 {
        let mut levels = |names: usize| {
            let count = 1 + random.below(4);
            (0..count).map(|_| random.pick(&LEVELS[..names])).collect::<Vec<_>>().join("/")
        };
        let (filter, topic) = (levels(6), levels(4));
        if topic.is_empty() || topic_filter(filter.as_bytes(), V311).is_err() {
            continue;
        }
        let wanted = topic_matching::matches(&topic, &filter);
        assert_eq!(match_filter(filter.as_bytes(), topic.as_bytes()), wanted, "{filter} {topic}");
        tried += 1;
        matched += usize::from(wanted);
    }
    assert!(matched > 300, "{matched} matched");
}
