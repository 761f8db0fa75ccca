//! Exchanges come and go.
//!
//! A durable one is a `META` record like the other nouns (see `declare`). One that is to go with
//! its last binding goes wherever that is removed: by hand, with a queue, with another exchange.
//! Such a chain is followed by a look at all exchanges for each that goes, without recursion; if
//! power goes before the end of it is written, an exchange without bindings is left.

use super::dead::NAME_MAX;
use super::declare::append_meta;
use super::meta::{ExchangeMeta, Meta};
use super::Broker;
use crate::command::{ExchangeOptions, Refusal, Reply};
use crate::flash::Flash;
use crate::model::bond::Target;
use crate::model::exchange::{Declaration, Declared, Exchange, ExchangeError, PREDECLARED};
use crate::units::{ExchangeId, Position};

impl<F: Flash> Broker<'_, F> {
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn declare_exchange(
        &mut self,
        name: &str,
        options: &ExchangeOptions<'_>,
    ) -> Result<Reply, Refusal> {
        if cfg!(not(feature = "gateway")) && (options.auto_delete || options.internal) {
            return Err(Refusal::NotAllowed);
        }
        let asked = Declaration { name, options: *options };
        let declared = self.state.exchanges.declare(&asked).map_err(|error| match error {
            ExchangeError::Mismatch => Refusal::Mismatch,
            ExchangeError::Limit(limit) => Refusal::Limit(limit),
            ExchangeError::Reserved => Refusal::NotAllowed,
            ExchangeError::Unknown => Refusal::NoExchange,
        })?;
        let id = match declared {
            Declared::Made(id) => id,
            Declared::Existed(id) => {
                let at = self.state.exchanges.get(id).and_then(|exchange| exchange.at);
                return Ok(Reply::Done(self.durable_at(at)));
            }
        };
        if !options.durable {
            return Ok(Reply::Done(Position(0)));
        }
        let written = if self.owes() { Err(Refusal::StoreFull) } else { self.rewrite_exchange(id) };
        if let Err(refusal) = written {
            let _ = self.state.exchanges.delete(id);
            return Err(refusal);
        }
        Ok(Reply::Done(self.make_durable()))
    }

    #[cfg(feature = "gateway")]
    pub(super) fn find_exchange(&self, name: &str) -> Result<Reply, Refusal> {
        let found = self.state.exchanges.find(name).and_then(|id| self.state.exchanges.get(id));
        let Exchange { kind, durable, auto_delete, internal, .. } = found.ok_or(Refusal::NoExchange)?;
        Ok(Reply::Exchange { kind, durable, auto_delete, internal })
    }

    /// Writes the declaration of an exchange as it stands.
    pub(super) fn rewrite_exchange(&mut self, id: ExchangeId) -> Result<(), Refusal> {
        let (mut name, mut alternate) = ([0; NAME_MAX], [0; NAME_MAX]);
        let exchange = self.state.exchanges.get(id).ok_or(Refusal::NoExchange)?;
        let name = self.state.exchanges.name(id, &mut name).ok_or(Refusal::NoExchange)?;
        let alternate = self.state.exchanges.alternate_name(id, &mut alternate);
        let Exchange { kind, auto_delete, internal, .. } = exchange;
        let meta = Meta::Exchange(ExchangeMeta { id, name, kind, auto_delete, internal, alternate });
        let at = append_meta(&mut self.log, self.state.scratch, &meta, self.purpose)?;
        self.log.hold(at);
        exchange.at.into_iter().for_each(|before| self.log.release(before));
        self.state.exchanges.set_at(id, Some(at));
        Ok(())
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn delete_exchange(&mut self, name: &str, if_unused: bool) -> Result<Reply, Refusal> {
        let id = self.state.exchanges.find(name).ok_or(Refusal::NoExchange)?;
        let exchange = self.state.exchanges.get(id).ok_or(Refusal::NoExchange)?;
        if usize::from(id.0) < PREDECLARED.len() {
            return Err(Refusal::NotAllowed);
        }
        if if_unused && self.state.bindings.first_from(id).is_some() {
            return Err(Refusal::InUse);
        }
        if exchange.at.is_some() {
            append_meta(&mut self.log, self.state.scratch, &Meta::ExchangeGone(id), self.purpose)?;
        }
        self.drop_exchange(&exchange);
        self.drop_unbound();
        Ok(Reply::Done(if exchange.at.is_some() { self.make_durable() } else { Position(0) }))
    }

    /// Takes an exchange out of the tables.
    fn drop_exchange(&mut self, exchange: &Exchange) {
        self.drop_bindings_to(Target::Exchange(exchange.id));
        let log = &mut self.log;
        self.state.bindings.remove_exchange(exchange.id, &mut |bindings, binding| {
            bindings.get(binding).and_then(|binding| binding.at).into_iter().for_each(|at| log.release(at));
        });
        exchange.at.into_iter().for_each(|at| self.log.release(at));
        let _ = self.state.exchanges.delete(exchange.id);
    }

    /// Removes every binding that leads somewhere, and notes whether an exchange that may have to go has
    /// lost one.
    pub(super) fn drop_bindings_to(&mut self, target: Target) {
        let (log, exchanges) = (&mut self.log, &self.state.exchanges);
        let mut is_looser = false;
        self.state.bindings.remove_destination(target, &mut |bindings, id| {
            let Some(binding) = bindings.get(id) else { return };
            binding.at.into_iter().for_each(|at| log.release(at));
            is_looser |= exchanges.goes_unbound(binding.exchange);
        });
        self.state.has_unbound |= is_looser;
    }

    /// The core alone has no exchange that goes by itself.
    #[cfg(not(feature = "gateway"))]
    pub(super) fn drop_unbound(&mut self) {}

    /// Removes the exchanges that were to go with their last binding, and have lost it.
    #[cfg(feature = "gateway")]
    pub(super) fn drop_unbound(&mut self) {
        while core::mem::take(&mut self.state.has_unbound) {
            for index in 0..self.state.exchanges.capacity() {
                let id = ExchangeId(index as u16);
                let Some(exchange) = self.state.exchanges.get(id) else { continue };
                let is_unbound = exchange.was_bound && self.state.bindings.first_from(id).is_none();
                if !exchange.auto_delete || !is_unbound {
                    continue;
                }
                if exchange.at.is_some() {
                    self.write_gone(&Meta::ExchangeGone(id));
                    self.urgent = true;
                }
                self.drop_exchange(&exchange);
            }
        }
    }
}
