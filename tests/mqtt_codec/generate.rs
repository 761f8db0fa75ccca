//! Random packets, valid in their version, with properties in the order of their identifiers.

use forebay::protocol::mqtt::codec::*;

/// Xorshift, 64 bits.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

const WORDS: [&str; 8] =
    ["", "a", "bridge-7", "naïve", "\u{feff}x", "日本", "😀", "a rather longer text, over a word or two"];
const TOPICS: [&str; 8] = [
    "a",
    "/",
    "plant/line/7",
    "$SYS/uptime",
    "日本/温度",
    "a//b",
    "12345678",
    "sensors/van-12/temperature/in",
];
const FILTERS: [&str; 9] =
    ["#", "+", "a/+/b", "a/#", "/", "$SYS/#", "plant/line/7", "日本/+", "$share/group/a/+"];
const DATA: [&[u8]; 4] = [b"", b"\0", b"\xFF\xFE", b"0123456789abcdef0123456789abcdef"];
/// Payloads around the widths of the remaining length.
static LONG: [u8; 17_000] = [b'x'; 17_000];

pub fn leak<T>(list: Vec<T>) -> &'static [T] {
    Box::leak(list.into_boxed_slice())
}

fn number(random: &mut Random) -> u16 {
    random.pick(&[0, 1, 10, 255, 256, u16::MAX])
}

fn long_number(random: &mut Random) -> u32 {
    random.pick(&[0, 1, 255, 65_536, u32::MAX])
}

fn qos(random: &mut Random) -> Qos {
    random.pick(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce])
}

pub fn packet_id(random: &mut Random) -> PacketId {
    PacketId::new(number(random).max(1)).expect("not zero")
}

/// Values for the properties of these identifiers.
fn property(identifier: u8, random: &mut Random) -> Property<'static> {
    use Property::*;
    match identifier {
        0x01 => PayloadIsText(random.flag()),
        0x02 => MessageExpiry(long_number(random)),
        0x03 => ContentType(random.pick(&WORDS)),
        0x08 => ResponseTopic(random.pick(&TOPICS)),
        0x09 => CorrelationData(random.pick(&DATA)),
        0x0B => SubscriptionIdentifier(SubscriptionId(random.pick(&[1, 127, 128, 16_384, 268_435_455]))),
        0x11 => SessionExpiry(long_number(random)),
        0x12 => AssignedClientId(random.pick(&WORDS)),
        0x13 => ServerKeepAlive(number(random)),
        0x15 => AuthMethod(random.pick(&WORDS)),
        0x16 => AuthData(random.pick(&DATA)),
        0x17 => RequestProblemInfo(random.flag()),
        0x18 => WillDelay(long_number(random)),
        0x19 => RequestResponseInfo(random.flag()),
        0x1A => ResponseInfo(random.pick(&WORDS)),
        0x1C => ServerReference(random.pick(&WORDS)),
        0x1F => ReasonString(random.pick(&WORDS)),
        0x21 => ReceiveMaximum(number(random).max(1)),
        0x22 => TopicAliasMaximum(number(random)),
        0x23 => TopicAlias(number(random).max(1)),
        0x24 => MaximumQos(random.pick(&[Qos::AtMostOnce, Qos::AtLeastOnce])),
        0x25 => RetainAvailable(random.flag()),
        0x26 => User((random.pick(&WORDS), random.pick(&WORDS))),
        0x27 => MaximumPacketSize(long_number(random).max(1)),
        0x28 => WildcardAvailable(random.flag()),
        0x29 => SubscriptionIdAvailable(random.flag()),
        0x2A => SharedAvailable(random.flag()),
        _ => unreachable!("no such property"),
    }
}

/// Which properties stand where (2.2.2.2), written down a second time.
pub fn allowed(scope: Scope) -> &'static [u8] {
    match scope {
        Scope::Connect => &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27],
        Scope::Will => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26],
        Scope::ConnAck => &[
            0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29,
            0x2A,
        ],
        Scope::Publish => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26],
        Scope::Answer => &[0x1F, 0x26],
        Scope::Subscribe => &[0x0B, 0x26],
        Scope::Unsubscribe => &[0x26],
        Scope::Disconnect => &[0x11, 0x1C, 0x1F, 0x26],
        Scope::Auth => &[0x15, 0x16, 0x1F, 0x26],
    }
}

pub fn one_property(identifier: u8) -> Property<'static> {
    property(identifier, &mut Random::new(u64::from(identifier)))
}

fn properties(random: &mut Random, version: Version, scope: Scope) -> Properties<'static> {
    if version == Version::V311 || (random.flag() && scope != Scope::Auth) {
        return Properties::NONE;
    }
    let mut list = Vec::new();
    for &identifier in allowed(scope) {
        let has_method = list.iter().any(|property| matches!(property, Property::AuthMethod(_)));
        let times = match identifier {
            0x15 if scope == Scope::Auth => 1,
            0x16 if !has_method => 0,
            0x26 => random.below(4),
            0x0B if scope == Scope::Publish => random.below(3),
            _ => random.below(3) / 2,
        };
        list.extend((0..times).map(|_| property(identifier, random)));
    }
    Properties::list(leak(list))
}

fn connect(random: &mut Random, version: Version) -> Packet<'static> {
    let will = random.flag().then(|| Will {
        topic: random.pick(&TOPICS).as_bytes(),
        payload: random.pick(&DATA),
        qos: qos(random),
        retain: random.flag(),
        properties: properties(random, version, Scope::Will),
    });
    let user_name = random.flag().then(|| random.pick(&WORDS));
    let may = version == Version::V5 || user_name.is_some();
    let password = (may && random.flag()).then(|| random.pick(&DATA));
    Packet::Connect(Connect {
        version,
        clean_start: random.flag(),
        keep_alive_s: number(random),
        client_id: random.pick(&WORDS),
        will,
        user_name,
        password,
        properties: properties(random, version, Scope::Connect),
    })
}

/// Reasons a packet may carry; in 3.1.1 those it can say.
fn reason(random: &mut Random, kind: PacketType, version: Version) -> Reason {
    let fits = |code: u8| {
        let reason = Reason::from_code(code).filter(|reason| reason.allowed_in(kind))?;
        let plain = reason.connect_return().map(ConnectReturn::reason) == Some(reason);
        (version == Version::V5 || plain).then_some(reason)
    };
    let all: Vec<Reason> = (0..=255).filter_map(fits).collect();
    random.pick(&all)
}

fn connack(random: &mut Random, version: Version) -> Packet<'static> {
    let reason = reason(random, PacketType::ConnAck, version);
    Packet::ConnAck(ConnAck {
        session_present: reason == Reason::Success && random.flag(),
        reason,
        properties: properties(random, version, Scope::ConnAck),
    })
}

pub fn publish(random: &mut Random, version: Version) -> Publish<'static> {
    let qos = qos(random);
    let payload = match random.below(8) {
        0 => &LONG[..random.pick(&[100, 127, 128, 200, 16_370, 16_384, 17_000])],
        _ => random.pick(&DATA),
    };
    let properties = properties(random, version, Scope::Publish);
    let nameless = properties.topic_alias().is_some() && random.flag();
    Publish {
        dup: qos != Qos::AtMostOnce && random.flag(),
        qos,
        retain: random.flag(),
        topic: if nameless { b"" } else { random.pick(&TOPICS).as_bytes() },
        packet_id: (qos != Qos::AtMostOnce).then(|| packet_id(random)),
        properties,
        payload,
    }
}

fn ack(random: &mut Random, version: Version, kind: PacketType) -> Ack<'static> {
    let reason = match version {
        Version::V311 => Reason::Success,
        Version::V5 => reason(random, kind, version),
    };
    Ack { packet_id: packet_id(random), reason, properties: properties(random, version, Scope::Answer) }
}

fn subscription(random: &mut Random, version: Version) -> Subscription<'static> {
    let filter = random.pick(&FILTERS);
    let mut options = SubscribeOptions { qos: qos(random), ..SubscribeOptions::default() };
    if version == Version::V5 {
        options.no_local = random.flag() && split_share(filter).is_none();
        options.retain_as_published = random.flag();
        options.retain_handling =
            random.pick(&[RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]);
    }
    Subscription { filter, options }
}

fn subscribe(random: &mut Random, version: Version) -> Packet<'static> {
    let count = 1 + random.below(4);
    let list = (0..count).map(|_| subscription(random, version)).collect();
    Packet::Subscribe(Subscribe {
        packet_id: packet_id(random),
        properties: properties(random, version, Scope::Subscribe),
        filters: Subscriptions::list(leak(list)),
    })
}

fn unsubscribe(random: &mut Random, version: Version) -> Packet<'static> {
    let count = 1 + random.below(4);
    let list = (0..count).map(|_| random.pick(&FILTERS)).collect();
    Packet::Unsubscribe(Unsubscribe {
        packet_id: packet_id(random),
        properties: properties(random, version, Scope::Unsubscribe),
        filters: Filters::list(leak(list)),
    })
}

fn answer(random: &mut Random, version: Version, kind: PacketType) -> Answer<'static> {
    let count = match (kind, version) {
        (PacketType::UnsubAck, Version::V311) => 0,
        _ => 1 + random.below(4),
    };
    let code = |random: &mut Random| match version {
        Version::V311 => random.pick(&[0, 1, 2, 0x80]),
        Version::V5 => reason(random, kind, version).code(),
    };
    let codes = (0..count).map(|_| code(random)).collect();
    Answer {
        packet_id: packet_id(random),
        properties: properties(random, version, Scope::Answer),
        reasons: Reasons::codes(leak(codes)),
    }
}

fn disconnect(random: &mut Random, version: Version) -> Disconnect<'static> {
    let reason = match version {
        Version::V311 => Reason::Success,
        Version::V5 => reason(random, PacketType::Disconnect, version),
    };
    Disconnect { reason, properties: properties(random, version, Scope::Disconnect) }
}

/// A valid packet of any type.
pub fn packet(random: &mut Random, version: Version) -> Packet<'static> {
    let types = if version == Version::V5 { 15 } else { 14 };
    match 1 + random.below(types) {
        1 => connect(random, version),
        2 => connack(random, version),
        3 => Packet::Publish(publish(random, version)),
        4 => Packet::PubAck(ack(random, version, PacketType::PubAck)),
        5 => Packet::PubRec(ack(random, version, PacketType::PubRec)),
        6 => Packet::PubRel(ack(random, version, PacketType::PubRel)),
        7 => Packet::PubComp(ack(random, version, PacketType::PubComp)),
        8 => subscribe(random, version),
        9 => Packet::SubAck(answer(random, version, PacketType::SubAck)),
        10 => unsubscribe(random, version),
        11 => Packet::UnsubAck(answer(random, version, PacketType::UnsubAck)),
        12 => Packet::PingReq,
        13 => Packet::PingResp,
        14 => Packet::Disconnect(disconnect(random, version)),
        _ => Packet::Auth(Auth {
            reason: reason(random, PacketType::Auth, version),
            properties: properties(random, version, Scope::Auth),
        }),
    }
}
