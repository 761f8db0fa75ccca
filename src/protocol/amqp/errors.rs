//! Faults: what goes wrong, in the words of the protocol (specification 1.3, reply codes).
//!
//! A fault ends the channel it happened on, or the connection, as the code says; either way the
//! peer is told code, text, and the class and method that failed. The text begins with the name
//! of the code, as RabbitMQ's does, because programs look for it.

use crate::command::Refusal;

/// The codes.
pub mod code {
    /// No queue took a mandatory message.
    pub const NO_ROUTE: u16 = 312;
    /// An operator ends the connection.
    pub const CONNECTION_FORCED: u16 = 320;
    /// The user may not.
    pub const ACCESS_REFUSED: u16 = 403;
    /// There is no such thing.
    pub const NOT_FOUND: u16 = 404;
    /// Somebody else has it for himself.
    pub const RESOURCE_LOCKED: u16 = 405;
    /// It is not as asked, or not as it must be.
    pub const PRECONDITION_FAILED: u16 = 406;
    /// Bytes that are no frame.
    pub const FRAME_ERROR: u16 = 501;
    /// A frame whose fields make no sense.
    pub const SYNTAX_ERROR: u16 = 502;
    /// A method that cannot come now.
    pub const COMMAND_INVALID: u16 = 503;
    /// A channel that is not open, or open already.
    pub const CHANNEL_ERROR: u16 = 504;
    /// A frame that cannot come now.
    pub const UNEXPECTED_FRAME: u16 = 505;
    /// There is no room for it.
    pub const RESOURCE_ERROR: u16 = 506;
    /// It is not allowed, whoever asks.
    pub const NOT_ALLOWED: u16 = 530;
    /// It is not there.
    pub const NOT_IMPLEMENTED: u16 = 540;
}

/// What a fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The channel.
    Channel,
    /// The connection.
    Connection,
}

/// Something went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The reply code.
    pub code: u16,
    /// The text, without the name of the code.
    pub text: String,
    /// What it ends.
    pub ends: Ends,
}

impl Fault {
    /// A fault that ends what its code ends.
    pub fn new(code: u16, text: impl Into<String>) -> Fault {
        let ends = match code {
            311..=313 | 403..=406 => Ends::Channel,
            _ => Ends::Connection,
        };
        Fault { code, text: text.into(), ends }
    }

    /// The same, ending the connection.
    pub fn of_connection(self) -> Fault {
        Fault { ends: Ends::Connection, ..self }
    }

    /// The whole text, at most what a short string holds.
    pub fn reply_text(&self) -> String {
        let mut text = format!("{} - {}", name(self.code), self.text);
        let mut end = text.len().min(255);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text
    }
}

const fn name(code: u16) -> &'static str {
    match code {
        code::NO_ROUTE => "NO_ROUTE",
        code::CONNECTION_FORCED => "CONNECTION_FORCED",
        code::ACCESS_REFUSED => "ACCESS_REFUSED",
        code::NOT_FOUND => "NOT_FOUND",
        code::RESOURCE_LOCKED => "RESOURCE_LOCKED",
        code::PRECONDITION_FAILED => "PRECONDITION_FAILED",
        code::FRAME_ERROR => "FRAME_ERROR",
        code::SYNTAX_ERROR => "SYNTAX_ERROR",
        code::COMMAND_INVALID => "COMMAND_INVALID",
        code::CHANNEL_ERROR => "CHANNEL_ERROR",
        code::UNEXPECTED_FRAME => "UNEXPECTED_FRAME",
        code::RESOURCE_ERROR => "RESOURCE_ERROR",
        code::NOT_ALLOWED => "NOT_ALLOWED",
        code::NOT_IMPLEMENTED => "NOT_IMPLEMENTED",
        _ => "INTERNAL_ERROR",
    }
}

/// There is no such queue or exchange.
pub fn not_found(what: &str, name: &str, virtual_host: &str) -> Fault {
    Fault::new(code::NOT_FOUND, format!("no {what} '{name}' in vhost '{virtual_host}'"))
}

/// The fault of a refusal that has no better words where it happened. `what` is what was tried with.
pub fn of_refusal(refusal: Refusal, what: &str) -> Fault {
    match refusal {
        Refusal::NoExchange => Fault::new(code::NOT_FOUND, format!("no exchange: {what}")),
        Refusal::NoQueue => Fault::new(code::NOT_FOUND, format!("no queue: {what}")),
        Refusal::NoConsumer => Fault::new(code::NOT_FOUND, format!("no consumer: {what}")),
        Refusal::InUse => Fault::new(code::PRECONDITION_FAILED, format!("in use: {what}")),
        Refusal::NotEmpty => Fault::new(code::PRECONDITION_FAILED, format!("not empty: {what}")),
        Refusal::Exclusive => Fault::new(code::ACCESS_REFUSED, format!("in exclusive use: {what}")),
        Refusal::UnknownTag | Refusal::NoMessage => {
            Fault::new(code::PRECONDITION_FAILED, "unknown delivery tag")
        }
        Refusal::Mismatch => {
            Fault::new(code::PRECONDITION_FAILED, format!("inequivalent arguments for {what}"))
        }
        Refusal::NotAllowed => Fault::new(code::ACCESS_REFUSED, format!("operation not permitted on {what}")),
        Refusal::Malformed => {
            Fault::new(code::PRECONDITION_FAILED, format!("a name, key or argument is malformed: {what}"))
        }
        Refusal::TooLarge => {
            Fault::new(code::PRECONDITION_FAILED, format!("larger than limits.max_message_bytes: {what}"))
        }
        Refusal::Limit(limit) => Fault::new(
            code::RESOURCE_ERROR,
            format!("the limit of {limit} is reached, see `forebay plan`: {what}"),
        ),
        Refusal::QueueFull => Fault::new(code::RESOURCE_ERROR, format!("a queue is full: {what}")),
        Refusal::StoreFull => {
            Fault::new(code::RESOURCE_ERROR, format!("the store is full until messages are consumed: {what}"))
        }
        Refusal::ReadOnly => Fault::new(
            code::RESOURCE_ERROR,
            format!("the store takes no writes since an error of the medium: {what}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_begins_with_the_name_of_its_code_and_fits_a_short_string() {
        let fault = not_found("queue", "q", "/");
        assert_eq!(fault.reply_text(), "NOT_FOUND - no queue 'q' in vhost '/'");
        assert_eq!(fault.ends, Ends::Channel);
        let long = Fault::new(code::NOT_ALLOWED, "ä".repeat(200));
        assert!(long.reply_text().len() >= 254 && long.reply_text().len() <= 255);
        assert_eq!(long.ends, Ends::Connection);
    }
}
