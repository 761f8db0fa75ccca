//! CONNECT and CONNACK (3.1, 3.2).
//!
//! ```text
//! CONNECT  "MQTT" level flags keep-alive [properties]
//!          client-id [[will properties] will-topic will-payload] [user] [password]
//! flags    7 user · 6 password · 5 will retain · 4-3 will QoS · 2 will · 1 clean start · 0 reserved
//! CONNACK  session-present code [properties]
//! ```
//! A CONNECT brings its own version; what the reader was told before does not matter.
//! Whether an empty client identifier is welcome is for the session to say [MQTT-3.1.3-8].

use super::cursor::{Reader, Sink};
use super::error::{DecodeError, EncodeError};
use super::header::PacketType;
use super::properties::Properties;
use super::property::Scope;
use super::reason::{ConnectReturn, Reason};
use super::text::{check_binary, check_text, check_topic, topic_name};
use super::{Qos, Version};

const RESERVED: u8 = 0x01;
const CLEAN: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER: u8 = 0x80;

/// A client asks to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version it speaks; also the one it is written in.
    pub version: Version,
    /// Forget the session there was.
    pub clean_start: bool,
    /// Seconds between packets at most; 0 turns it off.
    pub keep_alive_s: u16,
    /// Who it is; may be empty.
    pub client_id: &'a str,
    /// What is published when it goes without a word.
    pub will: Option<Will<'a>>,
    /// User name.
    pub user_name: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// Its properties.
    pub properties: Properties<'a>,
}

/// The message a client leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Topic name.
    pub topic: &'a [u8],
    /// Payload; at most 65,535 bytes.
    pub payload: &'a [u8],
    /// Its QoS.
    pub qos: Qos,
    /// Keep it as the last value.
    pub retain: bool,
    /// Its properties.
    pub properties: Properties<'a>,
}

impl<'a> Connect<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Connect<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let version = protocol(&mut reader)?;
        let flags = reader.byte()?;
        check_flags(flags, version)?;
        let keep_alive_s = reader.two()?;
        let properties = Properties::read_if(&mut reader, version, Scope::Connect)?;
        let client_id = reader.text()?;
        let will = if flags & WILL != 0 { Some(Will::read(&mut reader, flags, version)?) } else { None };
        let user_name = if flags & USER != 0 { Some(reader.text()?) } else { None };
        let password = if flags & PASSWORD != 0 { Some(reader.binary()?) } else { None };
        reader.end()?;
        let clean_start = flags & CLEAN != 0;
        Ok(Connect { version, clean_start, keep_alive_s, client_id, will, user_name, password, properties })
    }

    pub(super) fn check(&self) -> Result<(), EncodeError> {
        self.properties.check(self.version, Scope::Connect)?;
        check_text(self.client_id)?;
        if let Some(will) = &self.will {
            will.properties.check(self.version, Scope::Will)?;
            check_topic(will.topic)?;
            check_binary(will.payload)?;
        }
        check_text(self.user_name.unwrap_or_default())?;
        check_binary(self.password.unwrap_or_default())?;
        Ok(check_flags(self.flags(), self.version)?)
    }

    pub(super) fn write(&self, sink: &mut impl Sink) {
        sink.binary(b"MQTT");
        sink.byte(self.version.level());
        sink.byte(self.flags());
        sink.two(self.keep_alive_s);
        self.properties.write_if(self.version, sink);
        sink.binary(self.client_id.as_bytes());
        if let Some(will) = &self.will {
            will.properties.write_if(self.version, sink);
            sink.binary(will.topic);
            sink.binary(will.payload);
        }
        if let Some(user_name) = self.user_name {
            sink.binary(user_name.as_bytes());
        }
        if let Some(password) = self.password {
            sink.binary(password);
        }
    }

    fn flags(&self) -> u8 {
        let bit = |set: bool, flag: u8| if set { flag } else { 0 };
        let will = self.will.map_or(0, |will| WILL | (will.qos as u8) << 3 | bit(will.retain, WILL_RETAIN));
        bit(self.clean_start, CLEAN)
            | will
            | bit(self.password.is_some(), PASSWORD)
            | bit(self.user_name.is_some(), USER)
    }
}

impl<'a> Will<'a> {
    fn read(reader: &mut Reader<'a>, flags: u8, version: Version) -> Result<Will<'a>, DecodeError> {
        let properties = Properties::read_if(reader, version, Scope::Will)?;
        let topic = reader.binary()?;
        topic_name(topic)?;
        let payload = reader.binary()?;
        let qos = Qos::from_bits((flags & WILL_QOS) >> 3).ok_or(DecodeError::WillFlags)?;
        Ok(Will { topic, payload, qos, retain: flags & WILL_RETAIN != 0, properties })
    }
}

/// Protocol name and level [MQTT-3.1.2-1], [MQTT-3.1.2-2]. "MQIsdp" is how 3.1 called itself.
fn protocol(reader: &mut Reader<'_>) -> Result<Version, DecodeError> {
    match (reader.binary()?, reader.byte()?) {
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQTT", 5) => Ok(Version::V5),
        (b"MQTT" | b"MQIsdp", level) => Err(DecodeError::ProtocolLevel(level)),
        _ => Err(DecodeError::ProtocolName),
    }
}

/// The connect flags (3.1.2.3 to 3.1.2.9).
fn check_flags(flags: u8, version: Version) -> Result<(), DecodeError> {
    if flags & RESERVED != 0 {
        return Err(DecodeError::ConnectFlags);
    }
    let will_bits = flags & (WILL_QOS | WILL_RETAIN);
    if flags & WILL_QOS == WILL_QOS || (flags & WILL == 0 && will_bits != 0) {
        return Err(DecodeError::WillFlags);
    }
    if version == Version::V311 && flags & (USER | PASSWORD) == PASSWORD {
        return Err(DecodeError::PasswordWithoutUser);
    }
    Ok(())
}

/// The server lets a client in, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// It still has the session.
    pub session_present: bool,
    /// Success, or why not. In 3.1.1 written as [`Reason::connect_return`], which has fewer words.
    pub reason: Reason,
    /// Its properties.
    pub properties: Properties<'a>,
}

impl<'a> ConnAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<ConnAck<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let [flags, code] = reader.array()?;
        let reason = match version {
            Version::V311 => ConnectReturn::from_code(code).map(ConnectReturn::reason),
            Version::V5 => Reason::from_code(code).filter(|reason| reason.allowed_in(PacketType::ConnAck)),
        };
        let reason = reason.ok_or(DecodeError::ReasonCode)?;
        let properties = Properties::read_if(&mut reader, version, Scope::ConnAck)?;
        reader.end()?;
        let ack = ConnAck { session_present: flags == 1, reason, properties };
        if flags > 1 || !ack.consistent() {
            return Err(DecodeError::ConnAckFlags);
        }
        Ok(ack)
    }

    /// A refusal has no session [MQTT-3.2.2-6].
    fn consistent(&self) -> bool {
        !self.session_present || self.reason == Reason::Success
    }

    pub(super) fn check(&self, version: Version) -> Result<(), EncodeError> {
        self.properties.check(version, Scope::ConnAck)?;
        if !self.reason.allowed_in(PacketType::ConnAck) {
            return Err(EncodeError::Invalid(DecodeError::ReasonCode));
        }
        if version == Version::V311 && self.reason.connect_return().is_none() {
            return Err(EncodeError::NotInVersion);
        }
        if !self.consistent() {
            return Err(EncodeError::Invalid(DecodeError::ConnAckFlags));
        }
        Ok(())
    }

    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) {
        let code = match (version, self.reason.connect_return()) {
            (Version::V311, Some(code)) => code.code(),
            _ => self.reason.code(),
        };
        sink.byte(u8::from(self.session_present));
        sink.byte(code);
        self.properties.write_if(version, sink);
    }
}
