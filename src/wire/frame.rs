//! The frames, as postcard writes them.
//!
//! ```text
//! frame      number u8, then the fields in the order they stand here
//! integers   u8 as it is; u16, u32, u64 as varints (7 bits a byte, lowest first); i64 zigzag first
//! text       length varint, bytes      bytes the same      option  0, or 1 and the value
//! an enum    the number of its variant, a varint
//! ```
//! New frames are added behind the last, new fields behind the last of their frame; a reader ignores
//! bytes behind the fields it knows. A side sends only what the version agreed on in the greeting has.
//!
//! What writes and reads them is in `layout`; a gateway has them for `serde` as well.

/// A string of bytes, written as one piece and borrowed when read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes<'a>(pub &'a [u8]);

#[cfg(feature = "gateway")]
impl serde::Serialize for Bytes<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

#[cfg(feature = "gateway")]
impl<'de: 'a, 'a> serde::Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::Deserialize::deserialize(deserializer).map(Bytes)
    }
}

/// Everything that is said. D: only by the device, G: only by the gateway.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "gateway", derive(serde::Serialize, serde::Deserialize))]
pub enum Frame<'a> {
    /// 0 D: who it is; begins a session anew.
    #[cfg_attr(feature = "gateway", serde(borrow))]
    Hello(Hello<'a>),
    /// 1 G: the session has begun.
    Welcome(Welcome),
    /// 2 both: it is over, or cannot begin.
    Error(Code),
    /// 3 G: a frame came that belongs to no session known here; the device answers with Hello.
    Who,
    /// 4 both: sent when nothing else is; answered by Pong.
    Ping {
        /// Comes back in the answer.
        token: u32,
    },
    /// 5 both: answers Ping.
    Pong(Pong),
    /// 6 both: how many messages may be unconfirmed from now on; 0 is a pause.
    Credit {
        /// Messages.
        window: u16,
    },
    /// 7 D: opens a lane; everything up to `settled` needs no confirm.
    Open(Open),
    /// 8 D: a message.
    #[cfg_attr(feature = "gateway", serde(borrow))]
    Publish(Publish<'a>),
    /// 9 G: everything of the lane up to this sequence is on the gateway's flash, or rejected.
    Confirm {
        /// The lane.
        lane: u8,
        /// Sequence of the last.
        upto: u64,
    },
    /// 10 G: send again what is behind `upto`, in so many milliseconds.
    Again(Again),
    /// 11 G: this one message is not taken and never will be; the next ones are.
    Reject {
        /// Its lane.
        lane: u8,
        /// Its sequence.
        sequence: u64,
        /// Why.
        code: Code,
    },
    /// 12 D: wants messages of a topic pattern, in MQTT's spelling.
    #[cfg_attr(feature = "gateway", serde(borrow))]
    Subscribe(Subscribe<'a>),
    /// 13 D: does not want them any more.
    #[cfg_attr(feature = "gateway", serde(borrow))]
    Unsubscribe(Subscribe<'a>),
    /// 14 G: answers Subscribe and Unsubscribe.
    Granted {
        /// The request it answers.
        request: u16,
        /// Why it was not done; none if it was.
        refused: Option<Code>,
    },
    /// 15 G: a message for the device.
    #[cfg_attr(feature = "gateway", serde(borrow))]
    Deliver(Deliver<'a>),
    /// 16 D: every delivery up to this number is done with.
    Ack {
        /// Number of the last.
        upto: u32,
    },
    /// 17 D: the delivery behind `upto` was not accepted; those behind it are to be sent again.
    Nack(Nack),
}

/// Who the device is and what it can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "gateway", derive(serde::Serialize, serde::Deserialize))]
pub struct Hello<'a> {
    /// Highest version it speaks.
    pub version: u8,
    /// Another number for each Hello of a device.
    pub nonce: u32,
    /// Its name: 1 to 64 bytes of letters, digits, `-`, `_`, `.`.
    pub device: &'a str,
    /// What proves that it is the one; empty if nothing is asked for.
    #[cfg_attr(feature = "gateway", serde(borrow))]
    pub secret: Bytes<'a>,
    /// Most deliveries that may be unacknowledged; 0 for a device that never subscribes.
    pub window: u16,
    /// Largest frame it takes, before it is coded.
    pub max_frame: u16,
    /// What waits for it at the gateway is forgotten, subscriptions included.
    pub clean: bool,
    /// It is told that the gateway is gone, and tells that it is there, at least this often. 0: never.
    pub keep_alive_s: u16,
}

/// The session has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "gateway", derive(serde::Serialize, serde::Deserialize))]
pub struct Welcome {
    /// Version that both speak.
    pub version: u8,
    /// Another number for each Welcome of a gateway.
    pub nonce: u32,
    /// Most messages that may be unconfirmed.
    pub window: u16,
    /// Largest frame it takes, before it is coded.
    pub max_frame: u16,
    /// Time of the gateway, in milliseconds since 1970; times in the session count from it.
    pub time_ms: u64,
    /// The gateway's clock has been set; else only differences mean something.
    pub is_dated: bool,
    /// Subscriptions of the device are known from before.
    pub is_resumed: bool,
}

/// Answers Ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "gateway", derive(serde::Serialize, serde::Deserialize))]
pub struct Pong {
    /// As in the Ping.
    pub token: u32,
    /// From the gateway its time, as in Welcome; from the device 0.
    pub time_ms: u64,
    /// From the device the number of the last delivery it is done with; from the gateway 0.
    pub upto: u32,
}

/// Opens a lane: sequences of one epoch, sent in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "gateway", derive(serde::Serialize, serde::Deserialize))]
pub struct Open {
    /// 0 to 3.
    pub lane: u8,
    /// Another number for each life of the device's store.
    pub epoch: u32,
    /// Everything up to this sequence was confirmed, or dropped by the device.
    pub settled: u64,
}

/// A message from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "gateway", derive(serde::Serialize, serde::Deserialize))]
pub struct Publish<'a> {
    /// Lane in the lowest two bits; see [`flag`].
    pub flags: u8,
    /// Its number in the lane's epoch, above 0.
    pub sequence: u64,
    /// How much higher it is than the one before it in the lane; 1 unless the device dropped some.
    pub distance: u64,
    /// When it was published, in milliseconds after Welcome's time; 0 unless `DATED` is set.
    pub time_ms: i64,
    /// Its topic, in MQTT's spelling.
    pub topic: &'a str,
    /// What most messages do without.
    pub options: Option<Options>,
    /// The payload.
    #[cfg_attr(feature = "gateway", serde(borrow))]
    pub body: Bytes<'a>,
}

/// Bits of [`Publish::flags`] and [`Deliver::flags`].
pub mod flag {
    /// Of Publish: the lane.
    pub const LANE: u8 = 3;
    /// Of Publish: it is the last value of its topic. Of Deliver: it was one, sent for a new subscription.
    pub const RETAIN: u8 = 4;
    /// Of Publish: `time_ms` says when it was published.
    pub const DATED: u8 = 8;
    /// Of Publish: it is handed to the receivers at most once.
    pub const FLEETING: u8 = 16;
    /// Of Deliver: the device may have got it before.
    pub const REDELIVERED: u8 = 32;
}

/// What most messages do without; 0 is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "gateway", derive(serde::Serialize, serde::Deserialize))]
pub struct Options {
    /// Dropped or dead-lettered this long after the gateway took it.
    pub ttl_ms: u32,
    /// Handed over only this long after the gateway took it.
    pub delay_ms: u32,
    /// 0 to 9.
    pub priority: u8,
}

/// Send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "gateway", derive(serde::Serialize, serde::Deserialize))]
pub struct Again {
    /// The lane.
    pub lane: u8,
    /// Sequence of the last that was taken.
    pub upto: u64,
    /// Not before so many milliseconds.
    pub after_ms: u32,
    /// Why, if it is not that one got lost.
    pub code: Option<Code>,
}

/// A subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "gateway", derive(serde::Serialize, serde::Deserialize))]
pub struct Subscribe<'a> {
    /// Names it in the answer.
    pub request: u16,
    /// Topic pattern in MQTT's spelling.
    pub pattern: &'a str,
    /// Send the retained messages that match.
    pub retained: bool,
}

/// A message for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "gateway", derive(serde::Serialize, serde::Deserialize))]
pub struct Deliver<'a> {
    /// Its number in the session, above 0; 0 if no acknowledgement is wanted.
    pub number: u32,
    /// How much higher it is than the one before it; 1 unless some were taken back.
    pub distance: u32,
    /// See [`flag`].
    pub flags: u8,
    /// When it was published, in milliseconds after Welcome's time.
    pub time_ms: i64,
    /// Its topic, in MQTT's spelling.
    pub topic: &'a str,
    /// The payload.
    #[cfg_attr(feature = "gateway", serde(borrow))]
    pub body: Bytes<'a>,
}

/// A delivery was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "gateway", derive(serde::Serialize, serde::Deserialize))]
pub struct Nack {
    /// Every delivery up to this number is done with.
    pub upto: u32,
    /// The highest number that came; what was sent since is not meant.
    pub seen: u32,
    /// What becomes of the one behind `upto`.
    pub verdict: Verdict,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "gateway", derive(serde::Serialize, serde::Deserialize))]
pub enum Verdict {
    /// It got lost on the way, or there was no room for it: again.
    Again,
    /// Again, after so many milliseconds.
    Delay(u32),
    /// To the dead-letter exchange, or gone.
    DeadLetter,
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "gateway", derive(serde::Serialize, serde::Deserialize))]
pub enum Code {
    /// The two sides have no version in common.
    Version,
    /// The device is not in the gateway's table, or its secret is wrong.
    Unauthorized,
    /// The device's name is empty, too long, or has other bytes than letters, digits, `-`, `_`, `.`.
    BadName,
    /// The gateway's table does not allow this topic to the device.
    Forbidden,
    /// No valid topic or pattern.
    BadTopic,
    /// Larger than the gateway takes.
    TooLarge,
    /// A queue or the store is full for now.
    Full,
    /// A table of the gateway is full; its log names the limit.
    Limit,
    /// The gateway's store takes no writes.
    ReadOnly,
    /// A frame that makes no sense here.
    Protocol,
    /// Another connection came with the same device name.
    TakenOver,
    /// The gateway shuts down.
    Shutdown,
    /// For a reason that only the gateway's log names.
    Refused,
}

impl Code {
    /// All of them, in the order of their numbers.
    pub const ALL: [Code; 13] = [
        Code::Version,
        Code::Unauthorized,
        Code::BadName,
        Code::Forbidden,
        Code::BadTopic,
        Code::TooLarge,
        Code::Full,
        Code::Limit,
        Code::ReadOnly,
        Code::Protocol,
        Code::TakenOver,
        Code::Shutdown,
        Code::Refused,
    ];

    /// What happened and what to do about it.
    pub const fn text(self) -> &'static str {
        match self {
            Code::Version => "the gateway and the device have no protocol version in common: update one",
            Code::Unauthorized => "wire.devices does not list this device with this secret",
            Code::BadName => "a device name is 1 to 64 letters, digits, '-', '_' or '.'",
            Code::Forbidden => "wire.devices does not allow this topic to the device",
            Code::BadTopic => "no valid topic or topic pattern",
            Code::TooLarge => "larger than wire.max_frame or limits.max_message_bytes",
            Code::Full => "a queue or the store is full: let messages be consumed",
            Code::Limit => "a limit of the gateway is reached; `forebay status` shows which",
            Code::ReadOnly => "the gateway's store takes no writes; `forebay status` shows why",
            Code::Protocol => "a frame that makes no sense at this point",
            Code::TakenOver => "another connection came with the same device name; names must be unique",
            Code::Shutdown => "the gateway shuts down",
            Code::Refused => "the gateway refused",
        }
    }
}
