//! Publish: from the frames of a content to the broker, and what is said of it.
//!
//! ```text
//! method (exchange, key) · header (size, properties) · body frames
//!    all at hand, one body frame: published from the read buffer, nothing is copied
//!    otherwise: put together in an Assembly, which is counted against the connection
//! ```
//! What the broker acts on: delivery mode 2 is durable, `expiration` a time to live, `priority` a
//! priority, the header `x-delay` a delay, the header `x-deduplication` an identity (`true`: the
//! message id), `message_id` one for queues that ask for it, the texts in the headers `CC` and `BCC` further
//! routing keys. All of it is stored as it came but for `BCC`, see `message`.
//!
//! A refused publish is a basic.nack for who asked for confirms. Others have no word for it: where a
//! queue is full and rejects, the message is dropped, as RabbitMQ does; where the broker has no room,
//! the connection is closed.
//!
//! Limits: `limits.max_message_bytes` a message, twice that unfinished a connection, [`KEYS_MAX`] further keys.

use super::channel::{Channel, Mode};
use super::codec::cursor::Cursor;
use super::codec::frame::{BODY, HEADER};
use super::codec::properties::{find_short, ContentHeader, Properties, REPLY_TO};
use super::codec::{method, split, write, Field};
use super::errors::{code, not_found, of_refusal, Fault};
use super::message::BCC;
use super::permissions::Right;
use super::queues::REPLY_QUEUE;
use super::session::{AmqpSession, Work};
use crate::command::{self, Command, DedupKey, Grade, Message, Refusal, Reply};
use crate::model::hash;
use crate::model::key::Key;

/// A content that is not whole yet waits in the read buffer if it is shorter than this.
const PIECE_BYTES: usize = 4096;
/// Most texts in CC and BCC together.
pub const KEYS_MAX: usize = 100;
/// Longest routing key, in bytes.
const SHORT_MAX: usize = 255;
/// Mixed into identities of publishes.
const DEDUP_SEED: u64 = 0x616d_7170_2d69_6421;

/// What was found at the front of the read buffer.
pub enum Whole {
    /// A content of so many bytes, which is dealt with.
    Published(usize),
    /// The beginning of one; more bytes will tell.
    NotYet,
    /// One that has to be put together.
    Piecemeal,
}

/// A content that is put together.
pub struct Assembly {
    exchange: Box<str>,
    routing_key: Box<[u8]>,
    mandatory: bool,
    /// Its size, flags and list of properties, once the header is there.
    header: Option<(u64, u16, Box<[u8]>)>,
    body: Vec<u8>,
}

impl Assembly {
    /// Bytes it is counted with.
    pub fn held_bytes(&self) -> usize {
        self.header.as_ref().map_or(0, |(size, _, list)| *size as usize + list.len())
    }
}

/// A message that came in.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The exchange.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a [u8],
    /// It comes back if no queue takes it.
    pub mandatory: bool,
    /// Its properties.
    pub properties: Properties<'a>,
    /// Its body.
    pub body: &'a [u8],
}

impl AmqpSession {
    /// Publishes the content at the front of `rest`, whose method frame has `size` bytes. A fault comes with
    /// the bytes that are dealt with.
    pub(super) fn publish_from(
        &mut self,
        channel: &mut Channel,
        payload: &[u8],
        size: usize,
        rest: &[u8],
        work: &mut Work<'_>,
    ) -> Result<Whole, (usize, Fault)> {
        let not_yet = if rest.len() < PIECE_BYTES { Whole::NotYet } else { Whole::Piecemeal };
        let frame_at = |at: usize| split(rest.get(at..).unwrap_or_default(), self.frame_max);
        let Some(publish) = method::publish(&mut Cursor::new(payload.get(4..).unwrap_or_default())) else {
            return Ok(Whole::Piecemeal);
        };
        if publish.immediate {
            return Ok(Whole::Piecemeal);
        }
        let (header, header_size) = match frame_at(size) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(not_yet),
            Err(_) => return Ok(Whole::Piecemeal),
        };
        if header.kind != HEADER || header.channel != channel.number {
            return Ok(Whole::Piecemeal);
        }
        let Some(content) = ContentHeader::parse(header.payload) else { return Ok(Whole::Piecemeal) };
        if content.body_size > u64::from(self.settings.max_message_bytes) {
            return Ok(Whole::Piecemeal);
        }
        let mut end = size + header_size;
        let mut body: &[u8] = &[];
        if content.body_size > 0 {
            let (frame, body_size) = match frame_at(end) {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(not_yet),
                Err(_) => return Ok(Whole::Piecemeal),
            };
            let is_all = frame.payload.len() as u64 == content.body_size;
            if frame.kind != BODY || frame.channel != channel.number || !is_all {
                return Ok(Whole::Piecemeal);
            }
            body = frame.payload;
            end += body_size;
        }
        let incoming = Incoming {
            exchange: publish.exchange,
            routing_key: publish.routing_key,
            mandatory: publish.mandatory,
            properties: content.properties,
            body,
        };
        self.submit(channel, &incoming, work).map_err(|fault| (end, fault))?;
        Ok(Whole::Published(end))
    }

    /// A publish whose header and body come later.
    pub(super) fn begin_content(
        &mut self,
        channel: &mut Channel,
        publish: &method::Publish<'_>,
    ) -> Result<(), Fault> {
        if publish.immediate {
            return Err(Fault::new(code::NOT_IMPLEMENTED, "immediate=true"));
        }
        channel.assembly = Some(Box::new(Assembly {
            exchange: publish.exchange.into(),
            routing_key: publish.routing_key.into(),
            mandatory: publish.mandatory,
            header: None,
            body: Vec::new(),
        }));
        Ok(())
    }

    pub(super) fn take_header(
        &mut self,
        channel: &mut Channel,
        payload: &[u8],
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let Some(assembly) = channel.assembly.as_mut().filter(|assembly| assembly.header.is_none()) else {
            return Err(Fault::new(code::UNEXPECTED_FRAME, "a content header without a publish"));
        };
        let Some(content) = ContentHeader::parse(payload) else {
            return Err(Fault::new(code::SYNTAX_ERROR, "a content header that makes no sense"));
        };
        let most = self.settings.max_message_bytes;
        if content.body_size > u64::from(most) {
            let text = format!(
                "message size {} is larger than configured max size {most} (limits.max_message_bytes)",
                content.body_size
            );
            return Err(Fault::new(code::PRECONDITION_FAILED, text));
        }
        let properties = content.properties;
        assembly.header = Some((content.body_size, properties.flags, properties.list.into()));
        self.hold(assembly.held_bytes())?;
        self.finish_content(channel, &[], work)
    }

    /// Counts bytes that are kept for something that is not whole yet.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), Fault> {
        self.held_bytes += bytes;
        if self.held_bytes > 2 * self.settings.max_message_bytes as usize {
            let text = "too many unfinished messages on one connection (limits.max_message_bytes)";
            return Err(Fault::new(code::RESOURCE_ERROR, text));
        }
        Ok(())
    }

    pub(super) fn take_body(
        &mut self,
        channel: &mut Channel,
        piece: &[u8],
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let size = channel.assembly.as_ref().and_then(|assembly| assembly.header.as_ref());
        if size.is_none() {
            return Err(Fault::new(code::UNEXPECTED_FRAME, "a content body without a header"));
        }
        self.finish_content(channel, piece, work)
    }

    /// Adds a piece of the body; publishes if it is whole with that.
    fn finish_content(
        &mut self,
        channel: &mut Channel,
        piece: &[u8],
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let Some(mut assembly) = channel.assembly.take() else { return Ok(()) };
        let Some((size, flags, list)) = &assembly.header else { return Ok(()) };
        let (size, have) = (*size as usize, assembly.body.len() + piece.len());
        if have < size {
            assembly.body.extend_from_slice(piece);
            channel.assembly = Some(assembly);
            return Ok(());
        }
        self.held_bytes = self.held_bytes.saturating_sub(assembly.held_bytes());
        if have > size {
            let text = format!("a content body of {have} bytes or more, {size} were announced");
            return Err(Fault::new(code::FRAME_ERROR, text));
        }
        let properties = Properties::read(*flags, list).unwrap_or_default();
        let is_one = assembly.body.is_empty();
        if !is_one {
            assembly.body.extend_from_slice(piece);
        }
        let incoming = Incoming {
            exchange: &assembly.exchange,
            routing_key: &assembly.routing_key,
            mandatory: assembly.mandatory,
            properties,
            body: if is_one { piece } else { &assembly.body },
        };
        self.submit(channel, &incoming, work)
    }

    /// Publishes a whole message.
    fn submit(
        &mut self,
        channel: &mut Channel,
        incoming: &Incoming<'_>,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        self.has_published = true;
        if let Mode::Confirm(confirms) = &mut channel.mode {
            confirms.number();
        }
        self.check_user(&incoming.properties)?;
        self.demand_exchange(Right::Write, incoming.exchange)?;
        let replaced;
        let mut properties = incoming.properties;
        if properties.reply_to == Some(REPLY_QUEUE.as_bytes()) {
            replaced = replace_reply_to(channel, &properties)?;
            properties = Properties::read(properties.flags, &replaced).unwrap_or_default();
        }
        let incoming = Incoming { properties, ..*incoming };
        let asked = Asked::read(&incoming)?;
        if let Mode::Transaction(transaction) = &mut channel.mode {
            let bytes = transaction.publish(&incoming);
            return self.hold(bytes);
        }
        let headers = self.scratch.block(&properties).map_err(|_| unfit())?;
        let publish = asked.publish(&incoming, headers);
        let outcome = work.broker.execute(Command::Publish(publish));
        self.scratch.shrink_large();
        self.tell(channel, &incoming, outcome, work)
    }

    /// A message that names its user must name the right one.
    fn check_user(&self, properties: &Properties<'_>) -> Result<(), Fault> {
        match properties.user_id {
            Some(name) if name != self.user.as_bytes() => Err(Fault::new(
                code::PRECONDITION_FAILED,
                format!(
                    "user_id property set to '{}' but authenticated user was '{}'",
                    String::from_utf8_lossy(name),
                    self.user
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Says what became of a publish.
    fn tell(
        &mut self,
        channel: &mut Channel,
        incoming: &Incoming<'_>,
        outcome: Result<Reply, Refusal>,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        match outcome {
            Ok(Reply::Published { confirm_at, routed, duplicate }) => {
                if incoming.mandatory && routed == 0 && !duplicate {
                    self.give_back(channel.number, incoming, work.out);
                }
                if let Mode::Confirm(confirms) = &mut channel.mode {
                    confirms.accept(confirm_at);
                }
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(refusal) => self.refuse(channel, incoming, refusal, work),
        }
    }

    fn refuse(
        &mut self,
        channel: &mut Channel,
        incoming: &Incoming<'_>,
        refusal: Refusal,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let (exchange, host) = (incoming.exchange, &self.virtual_host);
        match refusal {
            Refusal::NoExchange => return Err(not_found("exchange", exchange, host)),
            Refusal::NotAllowed => {
                let text = format!("cannot publish to internal exchange '{exchange}' in vhost '{host}'");
                return Err(Fault::new(code::ACCESS_REFUSED, text));
            }
            Refusal::TooLarge => {
                let text = format!(
                    "message size {} with properties is larger than limits.max_message_bytes allows",
                    incoming.body.len()
                );
                return Err(Fault::new(code::PRECONDITION_FAILED, text));
            }
            _ => {}
        }
        self.has_spoken = true;
        match &mut channel.mode {
            Mode::Confirm(confirms) => {
                confirms.refuse(channel.number, work.out);
                Ok(())
            }
            _ if refusal == Refusal::QueueFull => Ok(()),
            _ => Err(of_refusal(refusal, &format!("a publish to '{exchange}'"))),
        }
    }

    /// Sends a message back that no queue took.
    pub(super) fn give_back(&mut self, number: u16, incoming: &Incoming<'_>, out: &mut Vec<u8>) {
        let (exchange, key) = (incoming.exchange, incoming.routing_key);
        write::basic_return(number, code::NO_ROUTE, "NO_ROUTE", exchange, key, out);
        write::content_header(number, incoming.body.len(), out, |out| {
            out.extend_from_slice(&incoming.properties.flags.to_be_bytes());
            out.extend_from_slice(incoming.properties.list);
        });
        write::content_body(number, incoming.body, self.frame_max, out);
        self.has_spoken = true;
    }
}

/// What a publish asks of the broker besides handing the message on.
#[derive(Clone, Debug, Default)]
pub struct Asked<'a> {
    ttl_ms: Option<u64>,
    delay_ms: Option<u64>,
    dedup: Option<DedupKey>,
    identity: Option<u64>,
    more_keys: Vec<Key<'a>>,
}

impl<'a> Asked<'a> {
    /// Reads it from the properties.
    pub fn read(incoming: &Incoming<'a>) -> Result<Asked<'a>, Fault> {
        let properties = &incoming.properties;
        let identity = properties.message_id.map(|id| hash::hash_bytes(DEDUP_SEED, id));
        let mut asked = Asked { identity, ..Asked::default() };
        if let Some(text) = properties.expiration {
            let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            asked.ttl_ms = Some(number.ok_or_else(|| {
                let text = String::from_utf8_lossy(text);
                Fault::new(
                    code::PRECONDITION_FAILED,
                    format!("invalid expiration '{text}': milliseconds as text"),
                )
            })?);
        }
        let headers = properties.headers();
        if headers.is_empty() {
            return Ok(asked);
        }
        let delay = headers.get("x-delay").and_then(|field| field.int());
        asked.delay_ms =
            delay.and_then(|delay_ms| u64::try_from(delay_ms).ok()).filter(|&delay_ms| delay_ms > 0);
        let identity = headers.get("x-deduplication").and_then(|field| match field.bool() {
            Some(true) => properties.message_id,
            Some(false) => None,
            None => field.text().map(str::as_bytes),
        });
        asked.dedup = identity.map(|identity| {
            let exchange = hash::hash_bytes(DEDUP_SEED, incoming.exchange.as_bytes());
            DedupKey::Window(hash::hash_bytes(exchange, identity))
        });
        for name in ["CC", BCC] {
            asked.add_keys(name, headers.get(name))?;
        }
        Ok(asked)
    }

    /// Adds the texts of CC or BCC.
    fn add_keys(&mut self, name: &str, field: Option<Field<'a>>) -> Result<(), Fault> {
        let Some(field) = field else { return Ok(()) };
        let refused = |what: &str| Fault::new(code::PRECONDITION_FAILED, format!("header '{name}': {what}"));
        let items = field.items().ok_or_else(|| refused("an array of texts is needed"))?;
        for item in items {
            let key = Some(item).filter(|item| item.kind == b'S' && item.bytes.len() <= SHORT_MAX);
            let key = key.ok_or_else(|| refused("an array of texts of up to 255 bytes is needed"))?;
            if self.more_keys.len() == KEYS_MAX {
                return Err(refused("too many keys"));
            }
            self.more_keys.push(Key::dots(key.bytes));
        }
        Ok(())
    }

    /// The broker's publish of a message.
    pub fn publish<'p>(&'p self, incoming: &Incoming<'p>, headers: &'p [u8]) -> command::Publish<'p> {
        command::Publish {
            exchange: incoming.exchange,
            message: Message { key: Key::dots(incoming.routing_key), headers, body: incoming.body },
            durable: incoming.properties.delivery_mode == Some(2),
            grade: Grade::AtLeastOnce,
            retain: false,
            ttl_ms: self.ttl_ms,
            delay_ms: self.delay_ms,
            priority: incoming.properties.priority.unwrap_or(0),
            dedup: self.dedup,
            identity: self.identity,
            more_keys: &self.more_keys,
        }
    }
}

/// A header cannot be kept.
pub fn unfit() -> Fault {
    Fault::new(
        code::PRECONDITION_FAILED,
        "a header has a name that is no UTF-8, or a value over 65,535 bytes",
    )
}

/// The list of properties with the name of the channel's own reply queue.
fn replace_reply_to(channel: &Channel, properties: &Properties<'_>) -> Result<Vec<u8>, Fault> {
    let Some(queue) = &channel.reply_queue else {
        return Err(Fault::new(code::PRECONDITION_FAILED, "fast reply consumer does not exist"));
    };
    let list = properties.list;
    let (start, size) = find_short(properties.flags, list, REPLY_TO).unwrap_or((0, 0));
    let mut replaced = list.get(..start).unwrap_or_default().to_vec();
    super::codec::table::push_short(&mut replaced, queue.as_bytes());
    replaced.extend_from_slice(list.get(start + size..).unwrap_or_default());
    Ok(replaced)
}
