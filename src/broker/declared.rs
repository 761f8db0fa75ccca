//! What was declared, in the words it was declared with.
//!
//! For an export: everything comes out as the command that would make it again. Names and patterns
//! are put together from the cells of their tables in memory that the caller lends; what does not
//! fit there is left out and counted.

use super::dead::{Name, NAME_MAX};
use super::Broker;
use crate::command::{Bind, DedupKey, Destination, ExchangeKind, QueueOptions};
use crate::flash::Flash;
use crate::model::bond::Target;
use crate::model::exchange::PREDECLARED;
use crate::model::key::Key;
use crate::model::queue::NO_TTL;
use crate::units::{BindingId, ExchangeId, QueueId};

/// An exchange as it was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeInfo<'n> {
    /// Its name.
    pub name: &'n str,
    /// How it routes.
    pub kind: ExchangeKind,
    /// It survives a restart.
    pub durable: bool,
    /// It goes when the last binding from it goes.
    pub auto_delete: bool,
    /// It refuses what clients publish.
    pub internal: bool,
    /// Where messages go that match no binding.
    pub alternate: Option<&'n str>,
    /// It is one of those that every broker has.
    pub predeclared: bool,
}

/// Identities of publishes that are remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DedupInfo {
    /// Those of producers, that are not expired.
    pub window: u32,
    /// Inbound exactly-once publishes not yet released.
    pub held: u32,
    /// Places of the table of producers' identities that are taken; if that is all of them, older ones
    /// may have been forgotten.
    pub taken: u32,
}

impl<F: Flash> Broker<'_, F> {
    /// Shows every exchange.
    pub fn for_each_exchange(&self, visit: &mut dyn FnMut(&ExchangeInfo<'_>)) {
        let (mut name, mut alternate) = ([0; NAME_MAX], [0; NAME_MAX]);
        for exchange in self.state.exchanges.iter() {
            let Some(name) = self.state.exchanges.name(exchange.id, &mut name) else { continue };
            visit(&ExchangeInfo {
                name,
                kind: exchange.kind,
                durable: exchange.durable,
                auto_delete: exchange.auto_delete,
                internal: exchange.internal,
                alternate: self.state.exchanges.alternate_name(exchange.id, &mut alternate),
                predeclared: usize::from(exchange.id.0) < PREDECLARED.len(),
            });
        }
    }

    /// Shows every binding; returns how many did not fit into the memory for pattern and arguments.
    pub fn for_each_binding(&self, memory: &mut [u8], visit: &mut dyn FnMut(&Bind<'_>)) -> u32 {
        let mut unfit = 0;
        for exchange in self.state.exchanges.iter() {
            let mut next = self.state.bindings.first_from(exchange.id);
            while let Some(id) = next {
                if self.show_binding(exchange.id, id, memory, visit).is_none() {
                    unfit += 1;
                }
                next = self.state.bindings.next_from(id);
            }
        }
        unfit
    }

    fn show_binding(
        &self,
        exchange: ExchangeId,
        id: BindingId,
        memory: &mut [u8],
        visit: &mut dyn FnMut(&Bind<'_>),
    ) -> Option<()> {
        let (mut name, mut other) = ([0; NAME_MAX], [0; NAME_MAX]);
        let binding = self.state.bindings.get(id)?;
        let (pattern, arguments) = memory.split_at_mut_checked(memory.len() / 2)?;
        let queue_name: Option<Name>;
        let destination = match binding.target {
            Target::Exchange(id) => Destination::Exchange(self.state.exchanges.name(id, &mut other)?),
            Target::Queue(id) => {
                let text = self.state.queues.get(id)?.name?;
                queue_name = self.state.texts.to_string(text);
                Destination::Queue(queue_name.as_deref()?)
            }
        };
        visit(&Bind {
            exchange: self.state.exchanges.name(exchange, &mut name)?,
            destination,
            pattern: self.state.bindings.pattern(id, pattern)?,
            arguments: self.state.bindings.arguments(id, arguments)?,
            grade: binding.grade,
        });
        Some(())
    }

    /// Shows the options a queue, stream or group was declared with. Where a group started is
    /// forgotten: what is shown is where it goes on.
    pub fn show_options(&self, queue: QueueId, visit: &mut dyn FnMut(&QueueOptions<'_>)) {
        let Some(place) = self.state.queues.get(queue) else { return };
        let policy = &place.policy;
        let texts = &self.state.texts;
        let exchange: Option<Name> = policy.dead_letter_exchange.and_then(|text| texts.to_string(text));
        let key =
            policy.dead_letter_key.and_then(|(text, form)| Some((texts.to_vec::<NAME_MAX>(text)?, form)));
        visit(&QueueOptions {
            kind: policy.kind,
            durable: policy.durable,
            auto_delete: policy.auto_delete,
            exclusive: place.tenancy.exclusive(),
            single_active: place.tenancy.is_single(),
            dedup: place.tenancy.asks_identity(),
            expires_ms: place.tenancy.expires_ms(),
            session: policy.session,
            max_count: policy.max_count,
            max_bytes: policy.max_bytes,
            overflow: policy.overflow,
            ttl_ms: Some(policy.ttl_ms).filter(|&ttl_ms| ttl_ms != NO_TTL),
            delivery_limit: policy.delivery_limit,
            max_priority: policy.max_priority,
            lease_ms: policy.lease_ms,
            dead_letter_exchange: exchange.as_deref(),
            dead_letter_key: key.as_ref().map(|(text, form)| Key { text, form: *form }),
            start: self.offset_told(queue, place.next),
        });
    }

    /// Counts what is remembered of publishes.
    pub fn dedup_info(&self) -> DedupInfo {
        let dedup = &self.state.dedup;
        let taken = dedup.window_span() as u32;
        let mut info = DedupInfo { window: 0, held: dedup.held_count() as u32, taken };
        let mut cursor = 0;
        while let Some((next, key)) = dedup.next(cursor) {
            cursor = next;
            if matches!(key, Some((DedupKey::Window(_), expires)) if expires > self.now) {
                info.window += 1;
            }
        }
        info
    }
}
