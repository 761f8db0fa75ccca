//! What identifies a binding, and where in the match tree it belongs.
//!
//! Two bindings are the same if source, destination, key and arguments are. The tree holds the
//! key of a topic or direct binding as the path to its node; everything else is kept as text,
//! and nothing at all for the plainest ones.
//! ```text
//! kept   key_size u16 LE · key, in the AMQP spelling · arguments        or empty if both are
//! ```

use super::hash;
use super::headers;
use super::key::{Form, Key};
use super::topics::{self, Step};
use crate::command::ExchangeKind;
use crate::units::{ExchangeId, QueueId};

/// Where a binding leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// To a queue.
    Queue(QueueId),
    /// To an exchange.
    Exchange(ExchangeId),
}

/// An exchange as the source of bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Which.
    pub id: ExchangeId,
    /// How it routes.
    pub kind: ExchangeKind,
}

/// A binding to be made, found or unmade.
#[derive(Clone, Copy, Debug)]
pub struct Bond<'k> {
    /// The exchange that routes.
    pub source: Source,
    /// Where to.
    pub target: Target,
    /// The binding key or pattern.
    pub pattern: Key<'k>,
    /// Its arguments, in the encoding of `model::headers`.
    pub arguments: &'k [u8],
}

impl<'k> Bond<'k> {
    /// The tree does not hold the key.
    pub(super) fn keeps_key(&self) -> bool {
        matches!(self.source.kind, ExchangeKind::Fanout | ExchangeKind::Headers)
    }

    /// The binding is not for keys that begin with `$`.
    pub(super) fn is_shy(&self) -> bool {
        self.source.kind == ExchangeKind::Topic && topics::is_shy(self.pattern)
    }

    /// The text to be kept, in parts; the first is the size of the key and is put into `size`.
    pub(super) fn kept<'s>(&self, size: &'s mut [u8; 2]) -> [Key<'s>; 3]
    where
        'k: 's,
    {
        let key = if self.keeps_key() { self.pattern } else { Key::default() };
        *size = (key.text.len() as u16).to_le_bytes();
        let is_plain = key.text.is_empty() && self.arguments.is_empty();
        [Key::dots(if is_plain { &[] } else { size }), key, Key::dots(self.arguments)]
    }

    /// Number of nodes the binding hangs on.
    pub(super) fn anchor_count(&self) -> usize {
        match self.source.kind {
            ExchangeKind::Headers => headers::anchors(self.arguments).count().max(1),
            _ => 1,
        }
    }

    /// Calls `visit` with the path from the root of the exchange to one of its nodes.
    pub(super) fn with_path<R>(
        &self,
        seed: u64,
        anchor: usize,
        visit: impl FnOnce(&mut dyn Iterator<Item = Step<'_>>) -> R,
    ) -> R {
        match self.source.kind {
            ExchangeKind::Fanout => visit(&mut core::iter::empty()),
            ExchangeKind::Direct => visit(&mut core::iter::once(whole(self.pattern))),
            ExchangeKind::Topic => visit(&mut topics::steps(self.pattern)),
            ExchangeKind::Headers => match headers::anchors(self.arguments).nth(anchor) {
                None => visit(&mut core::iter::empty()),
                Some(span) => {
                    let word = anchor_word(seed, span);
                    visit(&mut core::iter::once(Step::Word(&word, Form::Dots)))
                }
            },
        }
    }
}

/// A key as one word, as a direct exchange has it.
pub(super) const fn whole(key: Key<'_>) -> Step<'_> {
    Step::Word(key.text, key.form)
}

/// The word that stands for a header in the tree. Headers may share one: what hangs there is
/// verified.
pub(super) fn anchor_word(seed: u64, span: &[u8]) -> [u8; 8] {
    hash::hash_bytes(seed, span).to_le_bytes()
}

/// Splits kept text: moves `kept` to the key and returns the key's size.
pub(super) fn kept_key_size(kept: &mut impl Iterator<Item = u8>) -> usize {
    let mut next = || kept.next().unwrap_or_default();
    usize::from(u16::from_le_bytes([next(), next()]))
}

/// The arguments in kept text.
pub(super) fn kept_arguments<I: Iterator<Item = u8>>(mut kept: I) -> I {
    let key_size = kept_key_size(&mut kept);
    if let Some(last) = key_size.checked_sub(1) {
        kept.nth(last);
    }
    kept
}
