//! What went wrong, in a word: for a line on a terminal.

use forebay::command::Refusal;

/// Why the broker refused. Of a full table, the name of its limit.
pub fn refusal(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoExchange => "no such exchange",
        Refusal::NoQueue => "no such queue",
        Refusal::NoConsumer => "no such consumer",
        Refusal::UnknownTag => "no such delivery",
        Refusal::Mismatch => "exists with other properties",
        Refusal::NotAllowed => "not allowed",
        Refusal::Limit(name) => name,
        Refusal::QueueFull => "the queue is full",
        Refusal::StoreFull => "the store is full",
        Refusal::ReadOnly => "the store takes no writes",
        Refusal::TooLarge => "too large",
        Refusal::Malformed => "malformed",
        #[allow(unreachable_patterns)]
        _ => "refused",
    }
}
