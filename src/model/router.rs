//! The way of a message from an exchange to the queues.
//!
//! Bindings may lead to further exchanges, in circles too. A work list through the table of
//! exchanges visits each once, without recursion; being on it is the mark. An exchange none of
//! whose bindings match hands over to its alternate exchange, which is visited the same way.
//! The default exchange has no bindings: the caller is asked for the queue of that name. A message may
//! have more keys than its own; an exchange is matched with each of them.
//!
//! A queue is shown as often as something leads to it; the caller marks it and keeps the highest
//! grade. Only the binding to the queue limits the grade, those between exchanges do not.

use super::binding::{Bindings, Target};
use super::exchange::{self, Exchanges};
use super::key::Key;
use super::link::Limit;
use crate::command::Grade;
use crate::units::{ExchangeId, QueueId};

/// The keys a message is routed by.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'k> {
    /// Its own.
    pub own: Key<'k>,
    /// Those besides.
    #[cfg(feature = "gateway")]
    pub more: &'k [Key<'k>],
}

impl<'k> Keys<'k> {
    /// A key and no other.
    pub fn one(own: Key<'k>) -> Keys<'k> {
        Keys {
            own,
            #[cfg(feature = "gateway")]
            more: &[],
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Key<'k>> + use<'k> {
        let own = core::iter::once(self.own);
        #[cfg(feature = "gateway")]
        let own = own.chain(self.more.iter().copied());
        own
    }
}

/// Routes over all exchanges.
#[derive(Debug)]
pub struct Router<'r, 'e, 'b> {
    /// The exchanges.
    pub exchanges: &'r mut Exchanges<'e>,
    /// Their bindings.
    pub bindings: &'r mut Bindings<'b>,
}

impl Router<'_, '_, '_> {
    /// Shows every queue a message goes to by its key and by those besides. `queue_named` answers for the
    /// default exchange. At an error (a topic exchange met a key with too many words) what was shown is void.
    pub fn route(
        &mut self,
        from: ExchangeId,
        keys: Keys<'_>,
        headers: &[u8],
        queue_named: &mut impl FnMut(Key<'_>) -> Option<QueueId>,
        sink: &mut impl FnMut(QueueId, Grade),
    ) -> Result<(), Limit> {
        let mut result = Ok(());
        let mut last = from;
        let mut next = Some(from);
        self.exchanges.enlist(from, &mut last);
        while let (Some(id), Ok(())) = (next, result) {
            result = self.visit(id, keys, headers, &mut last, queue_named, sink);
            next = self.exchanges.following(id);
        }
        self.exchanges.dismiss(from);
        result
    }

    fn visit(
        &mut self,
        id: ExchangeId,
        keys: Keys<'_>,
        headers: &[u8],
        last: &mut ExchangeId,
        queue_named: &mut impl FnMut(Key<'_>) -> Option<QueueId>,
        sink: &mut impl FnMut(QueueId, Grade),
    ) -> Result<(), Limit> {
        let Some(source) = self.exchanges.source(id) else { return Ok(()) };
        if id == exchange::DEFAULT {
            for queue in keys.iter().filter_map(queue_named) {
                sink(queue, Grade::ExactlyOnce);
            }
            return Ok(());
        }
        let mut is_matched = false;
        let exchanges = &mut *self.exchanges;
        for key in keys.iter() {
            self.bindings.route(source, key, headers, &mut |target, grade| {
                is_matched = true;
                match target {
                    Target::Queue(queue) => sink(queue, grade),
                    Target::Exchange(exchange) => exchanges.enlist(exchange, last),
                }
            })?;
        }
        if !is_matched {
            if let Some(alternate) = self.exchanges.alternate(id) {
                self.exchanges.enlist(alternate, last);
            }
        }
        Ok(())
    }
}
