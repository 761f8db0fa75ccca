//! The arguments of a queue, as RabbitMQ names them, to the broker's options.
//!
//! | argument | option |
//! |---|---|
//! | `x-message-ttl` | messages expire after so many milliseconds; 0 if nobody takes them at once |
//! | `x-expires` | the queue goes after so many milliseconds unused |
//! | `x-max-length`, `x-max-length-bytes` | most messages, most bytes |
//! | `x-overflow` | `drop-head`, `reject-publish`, `reject-publish-dlx` |
//! | `x-dead-letter-exchange`, `x-dead-letter-routing-key` | where dead letters go, and with which key |
//! | `x-max-priority` | priorities 0 to this; more than 9 are 9 |
//! | `x-single-active-consumer` | one consumer at a time |
//! | `x-delivery-limit` | most deliveries of one message |
//! | `x-queue-type` | `classic` and `quorum` are work queues, `stream` is a stream |
//! | `x-deduplication` | `true`: takes a message of the same `message_id` once within `limits` of the dedup window |
//! | `x-max-age` | a stream drops messages of this age: `7D`, `12h` |
//!
//! Others are ignored, as RabbitMQ does with those it does not know.

use super::codec::method::QueueDeclare;
use super::codec::Field;
use super::errors::{code, Fault};
use crate::command::{Overflow, QueueKind, QueueOptions};
use crate::model::key::Key;

/// What a declaration asks for.
pub fn queue_options<'a>(
    name: &str,
    asked: &QueueDeclare<'a>,
    owner: u64,
    virtual_host: &str,
) -> Result<QueueOptions<'a>, Fault> {
    let read = Reader { name, asked, virtual_host };
    let kind = match read.text("x-queue-type")? {
        None | Some("classic") => QueueKind::Work,
        Some("quorum") => QueueKind::Work,
        Some("stream") => QueueKind::Stream,
        Some(other) => return Err(read.invalid("x-queue-type", &format!("unknown queue type '{other}'"))),
    };
    read.check_type()?;
    let max_count = read.number("x-max-length")?;
    let ttl_ms = match kind {
        QueueKind::Stream => read.age("x-max-age")?,
        _ => read.number("x-message-ttl")?,
    };
    let dead_letter_exchange = read.text("x-dead-letter-exchange")?;
    let dead_letter_key = read.text("x-dead-letter-routing-key")?;
    if dead_letter_key.is_some() && dead_letter_exchange.is_none() {
        let text = "routing_key_but_no_dlx_defined";
        return Err(read.invalid("x-dead-letter-routing-key", text));
    }
    let narrow = |number: Option<u64>| number.map_or(0, |number| u32::try_from(number).unwrap_or(u32::MAX));
    Ok(QueueOptions {
        kind,
        durable: asked.durable && !asked.exclusive,
        auto_delete: asked.auto_delete,
        exclusive: if asked.exclusive { owner } else { 0 },
        single_active: read.bool("x-single-active-consumer")?,
        dedup: kind == QueueKind::Work && read.bool("x-deduplication")?,
        expires_ms: match read.number("x-expires")? {
            Some(0) => return Err(read.invalid("x-expires", "must be more than 0")),
            number => narrow(number),
        },
        max_count: narrow(max_count),
        max_bytes: read.number("x-max-length-bytes")?.unwrap_or(0),
        overflow: match read.text("x-overflow")? {
            None | Some("drop-head") => Overflow::DropOldest,
            Some("reject-publish") => Overflow::Reject,
            Some("reject-publish-dlx") => Overflow::DeadLetterNew,
            Some(other) => return Err(read.invalid("x-overflow", &format!("unknown value '{other}'"))),
        },
        // A queue that holds nothing hands on what somebody takes at once.
        ttl_ms: if max_count == Some(0) { Some(0) } else { ttl_ms },
        delivery_limit: read.number("x-delivery-limit")?.unwrap_or(0).min(255) as u8,
        max_priority: read.number("x-max-priority")?.unwrap_or(0).min(9) as u8,
        dead_letter_exchange,
        dead_letter_key: dead_letter_key.map(|key| Key::dots(key.as_bytes())),
        ..QueueOptions::default()
    })
}

/// Reads arguments, and says what is wrong with one.
struct Reader<'r, 'a> {
    name: &'r str,
    asked: &'r QueueDeclare<'a>,
    virtual_host: &'r str,
}

impl<'a> Reader<'_, 'a> {
    fn invalid(&self, argument: &str, what: &str) -> Fault {
        let (name, host) = (self.name, self.virtual_host);
        let text = format!("invalid arg '{argument}' for queue '{name}' in vhost '{host}': {what}");
        Fault::new(code::PRECONDITION_FAILED, text)
    }

    fn number(&self, argument: &str) -> Result<Option<u64>, Fault> {
        let Some(field) = self.asked.arguments.get(argument) else { return Ok(None) };
        match field.int().and_then(|number| u64::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.invalid(argument, "a whole number that is not negative is needed")),
        }
    }

    fn text(&self, argument: &str) -> Result<Option<&'a str>, Fault> {
        let Some(field) = self.asked.arguments.get(argument) else { return Ok(None) };
        field.text().map(Some).ok_or_else(|| self.invalid(argument, "a text is needed"))
    }

    fn bool(&self, argument: &str) -> Result<bool, Fault> {
        let Some(field) = self.asked.arguments.get(argument) else { return Ok(false) };
        field.bool().ok_or_else(|| self.invalid(argument, "true or false is needed"))
    }

    fn age(&self, argument: &str) -> Result<Option<u64>, Fault> {
        let Some(text) = self.text(argument)? else { return Ok(None) };
        age_ms(text).map(Some).ok_or_else(|| self.invalid(argument, "an age such as 7D or 12h is needed"))
    }

    /// Quorum queues and streams are durable and belong to everybody.
    fn check_type(&self) -> Result<(), Fault> {
        let kind = self.asked.arguments.get("x-queue-type").and_then(Field::text);
        if !matches!(kind, Some("quorum" | "stream")) {
            return Ok(());
        }
        let wrong = match self.asked {
            QueueDeclare { durable: false, .. } => "non-durable",
            QueueDeclare { exclusive: true, .. } => "exclusive",
            QueueDeclare { auto_delete: true, .. } => "auto-delete",
            _ => return Ok(()),
        };
        let (name, host) = (self.name, self.virtual_host);
        let text = format!("invalid property '{wrong}' for queue '{name}' in vhost '{host}'");
        Err(Fault::new(code::PRECONDITION_FAILED, text))
    }
}

/// An age: a number with Y, M, D, h, m or s behind it.
pub fn age_ms(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        'Y' => 365 * 86_400,
        'M' => 30 * 86_400,
        'D' => 86_400,
        'h' => 3600,
        'm' => 60,
        's' => 1,
        _ => return None,
    };
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    number.checked_mul(seconds * 1000)
}
