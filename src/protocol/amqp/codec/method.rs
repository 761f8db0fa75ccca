//! Methods that a client sends (specification, chapter 1 of the reference; RabbitMQ's additions).
//!
//! One variant a method, borrowing from its frame. Parsing is strict where that protects the
//! broker: strings and tables that run past the end, names that are no UTF-8, and tables that are not
//! sound are refused, and so is what only a server sends. Bits that nobody defined are ignored.

use super::cursor::Cursor;
use super::table::Table;

/// Class and method, as they stand in the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodId {
    /// The class.
    pub class: u16,
    /// The method within it.
    pub method: u16,
}

/// The first bytes of a publish.
pub const PUBLISH: [u8; 4] = [0, 60, 0, 40];

/// A declaration of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeDeclare<'a> {
    /// Its name.
    pub exchange: &'a str,
    /// Its type, by name.
    pub kind: &'a str,
    /// Only check that it is there.
    pub passive: bool,
    /// It survives a restart.
    pub durable: bool,
    /// It goes with its last binding.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// No answer is wanted.
    pub nowait: bool,
    /// More of it.
    pub arguments: Table<'a>,
}

/// A declaration of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueDeclare<'a> {
    /// Its name; empty for one that the server chooses.
    pub queue: &'a str,
    /// Only check that it is there.
    pub passive: bool,
    /// It survives a restart.
    pub durable: bool,
    /// Only this connection may use it, and it goes with it.
    pub exclusive: bool,
    /// It goes with its last consumer.
    pub auto_delete: bool,
    /// No answer is wanted.
    pub nowait: bool,
    /// More of it.
    pub arguments: Table<'a>,
}

/// A binding to be made or unmade, of a queue or between exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The queue or exchange it leads to.
    pub destination: &'a str,
    /// The exchange it is a binding of.
    pub source: &'a str,
    /// Its key.
    pub routing_key: &'a [u8],
    /// No answer is wanted.
    pub nowait: bool,
    /// More of it.
    pub arguments: Table<'a>,
}

/// A consumer to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consume<'a> {
    /// The queue; empty for the last one declared.
    pub queue: &'a str,
    /// Its name on the channel; empty for one that the server chooses.
    pub tag: &'a str,
    /// Not what this connection has published.
    pub no_local: bool,
    /// Deliveries are not acknowledged.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// No answer is wanted.
    pub nowait: bool,
    /// More of it.
    pub arguments: Table<'a>,
}

/// A message on its way; its header and body follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The exchange.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a [u8],
    /// It is to come back if no queue takes it.
    pub mandatory: bool,
    /// It is to come back if no consumer takes it at once.
    pub immediate: bool,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The fields have the names of the specification.
pub enum Method<'a> {
    ConnectionStartOk { client_properties: Table<'a>, mechanism: &'a str, response: &'a [u8] },
    ConnectionTuneOk { channel_max: u16, frame_max: u32, heartbeat_s: u16 },
    ConnectionOpen { virtual_host: &'a str },
    ConnectionClose { code: u16, text: &'a [u8] },
    ConnectionCloseOk,
    ConnectionUpdateSecret { secret: &'a [u8] },
    ChannelOpen,
    ChannelFlow { active: bool },
    ChannelFlowOk,
    ChannelClose { code: u16, text: &'a [u8] },
    ChannelCloseOk,
    ExchangeDeclare(ExchangeDeclare<'a>),
    ExchangeDelete { exchange: &'a str, if_unused: bool, nowait: bool },
    ExchangeBind(Binding<'a>),
    ExchangeUnbind(Binding<'a>),
    QueueDeclare(QueueDeclare<'a>),
    QueueBind(Binding<'a>),
    QueueUnbind(Binding<'a>),
    QueuePurge { queue: &'a str, nowait: bool },
    QueueDelete { queue: &'a str, if_unused: bool, if_empty: bool, nowait: bool },
    BasicQos { prefetch_size: u32, prefetch_count: u16, global: bool },
    BasicConsume(Consume<'a>),
    BasicCancel { tag: &'a str, nowait: bool },
    BasicCancelOk,
    BasicPublish(Publish<'a>),
    BasicGet { queue: &'a str, no_ack: bool },
    BasicAck { number: u64, multiple: bool },
    BasicNack { number: u64, multiple: bool, requeue: bool },
    BasicReject { number: u64, requeue: bool },
    BasicRecover { requeue: bool, is_async: bool },
    TxSelect,
    TxCommit,
    TxRollback,
    ConfirmSelect { nowait: bool },
}

/// Why a payload is no method that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodError {
    /// It is cut off, a string is no text, or a table is not sound.
    Malformed(MethodId),
    /// There is no such method, or only a server sends it.
    Unknown(MethodId),
}

impl MethodId {
    /// Reads the id of a method's payload.
    pub fn read(payload: &[u8]) -> Option<MethodId> {
        let mut cursor = Cursor::new(payload);
        Some(MethodId { class: cursor.u16()?, method: cursor.u16()? })
    }
}

/// Parses the payload of a method frame.
pub fn parse(payload: &[u8]) -> Result<(MethodId, Method<'_>), MethodError> {
    let id = MethodId::read(payload).ok_or(MethodError::Malformed(MethodId::default()))?;
    let mut cursor = Cursor::new(payload.get(4..).unwrap_or_default());
    if !is_known(id) {
        return Err(MethodError::Unknown(id));
    }
    let method = match id.class {
        10 | 20 => parse_connection(id, &mut cursor),
        40 | 50 => parse_topology(id, &mut cursor),
        60 => parse_basic(id.method, &mut cursor),
        _ => parse_modes(id, &mut cursor),
    };
    method.map(|method| (id, method)).ok_or(MethodError::Malformed(id))
}

const fn is_known(id: MethodId) -> bool {
    match id.class {
        10 => matches!(id.method, 11 | 31 | 40 | 50 | 51 | 70),
        20 => matches!(id.method, 10 | 20 | 21 | 40 | 41),
        40 => matches!(id.method, 10 | 20 | 30 | 40),
        50 => matches!(id.method, 10 | 20 | 30 | 40 | 50),
        60 => matches!(id.method, 10 | 20 | 30 | 31 | 40 | 70 | 80 | 90 | 100 | 110 | 120),
        85 => id.method == 10,
        90 => matches!(id.method, 10 | 20 | 30),
        _ => false,
    }
}

fn parse_connection<'a>(id: MethodId, cursor: &mut Cursor<'a>) -> Option<Method<'a>> {
    Some(match (id.class, id.method) {
        (10, 11) => {
            let client_properties = table(cursor)?;
            let (mechanism, response) = (cursor.name()?, cursor.long()?);
            cursor.short()?;
            Method::ConnectionStartOk { client_properties, mechanism, response }
        }
        (10, 31) => {
            let (channel_max, frame_max) = (cursor.u16()?, cursor.u32()?);
            Method::ConnectionTuneOk { channel_max, frame_max, heartbeat_s: cursor.u16()? }
        }
        (10, 40) => Method::ConnectionOpen { virtual_host: cursor.name()? },
        (10, 50) => Method::ConnectionClose { code: cursor.u16()?, text: cursor.short()? },
        (10, 51) => Method::ConnectionCloseOk,
        (10, 70) => Method::ConnectionUpdateSecret { secret: cursor.long()? },
        (20, 10) => Method::ChannelOpen,
        (20, 20) => Method::ChannelFlow { active: Bits::read(cursor)?.at(0) },
        (20, 21) => Method::ChannelFlowOk,
        (20, 40) => Method::ChannelClose { code: cursor.u16()?, text: cursor.short()? },
        (20, 41) => Method::ChannelCloseOk,
        _ => return None,
    })
}

fn parse_topology<'a>(id: MethodId, cursor: &mut Cursor<'a>) -> Option<Method<'a>> {
    // Every method of these classes begins with a field that is not used any more.
    cursor.u16()?;
    Some(match (id.class, id.method) {
        (40, 10) => {
            let (exchange, kind, bits) = (cursor.name()?, cursor.name()?, Bits::read(cursor)?);
            Method::ExchangeDeclare(ExchangeDeclare {
                exchange,
                kind,
                passive: bits.at(0),
                durable: bits.at(1),
                auto_delete: bits.at(2),
                internal: bits.at(3),
                nowait: bits.at(4),
                arguments: table(cursor)?,
            })
        }
        (40, 20) => {
            let (exchange, bits) = (cursor.name()?, Bits::read(cursor)?);
            Method::ExchangeDelete { exchange, if_unused: bits.at(0), nowait: bits.at(1) }
        }
        (40, 30) => Method::ExchangeBind(binding(cursor, true)?),
        (40, 40) => Method::ExchangeUnbind(binding(cursor, true)?),
        (50, 10) => {
            let (queue, bits) = (cursor.name()?, Bits::read(cursor)?);
            Method::QueueDeclare(QueueDeclare {
                queue,
                passive: bits.at(0),
                durable: bits.at(1),
                exclusive: bits.at(2),
                auto_delete: bits.at(3),
                nowait: bits.at(4),
                arguments: table(cursor)?,
            })
        }
        (50, 20) => Method::QueueBind(binding(cursor, true)?),
        (50, 50) => Method::QueueUnbind(binding(cursor, false)?),
        (50, 30) => Method::QueuePurge { queue: cursor.name()?, nowait: Bits::read(cursor)?.at(0) },
        (50, 40) => {
            let (queue, bits) = (cursor.name()?, Bits::read(cursor)?);
            Method::QueueDelete { queue, if_unused: bits.at(0), if_empty: bits.at(1), nowait: bits.at(2) }
        }
        _ => return None,
    })
}

fn binding<'a>(cursor: &mut Cursor<'a>, has_nowait: bool) -> Option<Binding<'a>> {
    let (destination, source, routing_key) = (cursor.name()?, cursor.name()?, cursor.short()?);
    let nowait = has_nowait && Bits::read(cursor)?.at(0);
    Some(Binding { destination, source, routing_key, nowait, arguments: table(cursor)? })
}

fn parse_basic<'a>(method: u16, cursor: &mut Cursor<'a>) -> Option<Method<'a>> {
    Some(match method {
        10 => {
            let (prefetch_size, prefetch_count) = (cursor.u32()?, cursor.u16()?);
            Method::BasicQos { prefetch_size, prefetch_count, global: Bits::read(cursor)?.at(0) }
        }
        20 => {
            cursor.u16()?;
            let (queue, tag, bits) = (cursor.name()?, cursor.name()?, Bits::read(cursor)?);
            Method::BasicConsume(Consume {
                queue,
                tag,
                no_local: bits.at(0),
                no_ack: bits.at(1),
                exclusive: bits.at(2),
                nowait: bits.at(3),
                arguments: table(cursor)?,
            })
        }
        30 => Method::BasicCancel { tag: cursor.name()?, nowait: Bits::read(cursor)?.at(0) },
        31 => Method::BasicCancelOk,
        40 => Method::BasicPublish(publish(cursor)?),
        70 => {
            cursor.u16()?;
            Method::BasicGet { queue: cursor.name()?, no_ack: Bits::read(cursor)?.at(0) }
        }
        80 => Method::BasicAck { number: cursor.u64()?, multiple: Bits::read(cursor)?.at(0) },
        90 => Method::BasicReject { number: cursor.u64()?, requeue: Bits::read(cursor)?.at(0) },
        100 | 110 => Method::BasicRecover { requeue: Bits::read(cursor)?.at(0), is_async: method == 100 },
        120 => {
            let (number, bits) = (cursor.u64()?, Bits::read(cursor)?);
            Method::BasicNack { number, multiple: bits.at(0), requeue: bits.at(1) }
        }
        _ => return None,
    })
}

/// The arguments of a publish.
pub fn publish<'a>(cursor: &mut Cursor<'a>) -> Option<Publish<'a>> {
    cursor.u16()?;
    let (exchange, routing_key, bits) = (cursor.name()?, cursor.short()?, Bits::read(cursor)?);
    Some(Publish { exchange, routing_key, mandatory: bits.at(0), immediate: bits.at(1) })
}

fn parse_modes<'a>(id: MethodId, cursor: &mut Cursor<'a>) -> Option<Method<'a>> {
    Some(match (id.class, id.method) {
        (85, 10) => Method::ConfirmSelect { nowait: Bits::read(cursor)?.at(0) },
        (90, 10) => Method::TxSelect,
        (90, 20) => Method::TxCommit,
        (90, 30) => Method::TxRollback,
        _ => return None,
    })
}

fn table<'a>(cursor: &mut Cursor<'a>) -> Option<Table<'a>> {
    let table = Table(cursor.long()?);
    table.is_sound().then_some(table)
}

/// Truth values packed into an octet, the first one lowest.
#[derive(Clone, Copy)]
struct Bits(u8);

impl Bits {
    fn read(cursor: &mut Cursor<'_>) -> Option<Bits> {
        cursor.u8().map(Bits)
    }

    const fn at(self, bit: u8) -> bool {
        self.0 >> bit & 1 != 0
    }
}
