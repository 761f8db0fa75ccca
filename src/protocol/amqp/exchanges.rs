//! Exchanges and their bindings among each other (class exchange).
//!
//! The type `x-delayed-message` is the one its `x-delayed-type` names: every exchange delays a message
//! that has the header `x-delay`.

use super::channel::Channel;
use super::codec::method::{Binding, ExchangeDeclare};
use super::codec::{write, Field, Table};
use super::errors::{code, not_found, of_refusal, Fault};
use super::permissions::Right;
use super::publish::unfit;
use super::session::{AmqpSession, Work};
use crate::command::{Bind, Command, Destination, ExchangeKind, ExchangeOptions, Grade, Refusal, Reply};
use crate::model::key::Key;
use crate::units::Position;

impl AmqpSession {
    pub(super) fn exchange_declare(
        &mut self,
        channel: &mut Channel,
        asked: &ExchangeDeclare<'_>,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let (name, number) = (asked.exchange, channel.number);
        refuse_default(name)?;
        if asked.passive {
            self.find_exchange(name, work)?;
            if !asked.nowait {
                self.reply(Position(0), work, |out| write::plain(number, 40, 11, out));
            }
            return Ok(());
        }
        self.demand_exchange(Right::Configure, name)?;
        let alternate = asked.arguments.get("alternate-exchange").and_then(Field::text);
        if let Some(alternate) = alternate {
            self.demand_exchange(Right::Read, name)?;
            self.demand_exchange(Right::Write, alternate)?;
        }
        let options = ExchangeOptions {
            kind: kind_of(asked.kind, asked.arguments)?,
            durable: asked.durable,
            auto_delete: asked.auto_delete,
            internal: asked.internal,
            alternate,
        };
        let host = &self.virtual_host;
        let position = match work.broker.execute(Command::DeclareExchange { name, options }) {
            Ok(Reply::Done(position)) => position,
            Ok(_) => Position(0),
            Err(Refusal::NotAllowed) => {
                let text = format!("exchange name '{name}' contains reserved prefix 'amq.*'");
                return Err(Fault::new(code::ACCESS_REFUSED, text));
            }
            Err(Refusal::Mismatch) => {
                let what = mismatch(name, &options, work);
                let text = format!("inequivalent arg '{what}' for exchange '{name}' in vhost '{host}'");
                return Err(Fault::new(code::PRECONDITION_FAILED, text));
            }
            Err(refusal) => return Err(of_refusal(refusal, &format!("exchange '{name}' in vhost '{host}'"))),
        };
        if !asked.nowait {
            self.reply(position, work, |out| write::plain(number, 40, 11, out));
        }
        Ok(())
    }

    fn find_exchange(&mut self, name: &str, work: &mut Work<'_>) -> Result<(), Fault> {
        match work.broker.execute(Command::FindExchange { name }) {
            Ok(_) => Ok(()),
            Err(Refusal::NoExchange) => Err(not_found("exchange", name, &self.virtual_host)),
            Err(refusal) => Err(of_refusal(refusal, &format!("exchange '{name}'"))),
        }
    }

    pub(super) fn exchange_delete(
        &mut self,
        channel: &mut Channel,
        name: &str,
        if_unused: bool,
        nowait: bool,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        refuse_default(name)?;
        self.demand_exchange(Right::Configure, name)?;
        let (number, host) = (channel.number, &self.virtual_host);
        let position = match work.broker.execute(Command::DeleteExchange { name, if_unused }) {
            Ok(Reply::Done(position)) => position,
            // It is gone, as was asked.
            Ok(_) | Err(Refusal::NoExchange) => Position(0),
            Err(Refusal::InUse) => {
                let text = format!("exchange '{name}' in vhost '{host}' in use");
                return Err(Fault::new(code::PRECONDITION_FAILED, text));
            }
            Err(refusal) => return Err(of_refusal(refusal, &format!("exchange '{name}' in vhost '{host}'"))),
        };
        if !nowait {
            self.reply(position, work, |out| write::plain(number, 40, 21, out));
        }
        Ok(())
    }

    pub(super) fn exchange_bind(
        &mut self,
        channel: &mut Channel,
        binding: &Binding<'_>,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        refuse_default(binding.destination)?;
        let position = self.bind(binding, Destination::Exchange(binding.destination), true, work)?;
        let number = channel.number;
        if !binding.nowait {
            self.reply(position, work, |out| write::plain(number, 40, 31, out));
        }
        Ok(())
    }

    pub(super) fn exchange_unbind(
        &mut self,
        channel: &mut Channel,
        binding: &Binding<'_>,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        refuse_default(binding.destination)?;
        let position = self.bind(binding, Destination::Exchange(binding.destination), false, work)?;
        let number = channel.number;
        if !binding.nowait {
            self.reply(position, work, |out| write::plain(number, 40, 51, out));
        }
        Ok(())
    }

    /// Makes or unmakes a binding; the position at which that is on flash.
    pub(super) fn bind(
        &mut self,
        binding: &Binding<'_>,
        destination: Destination<'_>,
        is_made: bool,
        work: &mut Work<'_>,
    ) -> Result<Position, Fault> {
        refuse_default(binding.source)?;
        self.demand_exchange(Right::Read, binding.source)?;
        if let Destination::Exchange(name) = destination {
            self.demand_exchange(Right::Write, name)?;
        }
        let bind = Bind {
            exchange: binding.source,
            destination,
            pattern: Key::dots(binding.routing_key),
            arguments: self.scratch.arguments(binding.arguments).map_err(|_| unfit())?,
            grade: Grade::ExactlyOnce,
        };
        let command = if is_made { Command::Bind(bind) } else { Command::Unbind(bind) };
        let host = &self.virtual_host;
        match work.broker.execute(command) {
            Ok(Reply::Done(position)) => Ok(position),
            Ok(_) => Ok(Position(0)),
            Err(Refusal::NoQueue) => Err(not_found("queue", binding.destination, host)),
            Err(Refusal::NoExchange) => {
                let is_source = work.broker.execute(Command::FindExchange { name: binding.source }).is_err();
                Err(not_found("exchange", if is_source { binding.source } else { binding.destination }, host))
            }
            Err(Refusal::Malformed) => {
                let text = "invalid x-match field value: all, any, all-with-x and any-with-x are known";
                Err(Fault::new(code::PRECONDITION_FAILED, text))
            }
            Err(refusal) => Err(of_refusal(refusal, &format!("a binding of exchange '{}'", binding.source))),
        }
    }
}

/// Nobody may change the default exchange.
fn refuse_default(name: &str) -> Result<(), Fault> {
    match name {
        "" => Err(Fault::new(code::ACCESS_REFUSED, "operation not permitted on the default exchange")),
        _ => Ok(()),
    }
}

fn kind_of(name: &str, arguments: Table<'_>) -> Result<ExchangeKind, Fault> {
    Ok(match name {
        "direct" => ExchangeKind::Direct,
        "fanout" => ExchangeKind::Fanout,
        "topic" => ExchangeKind::Topic,
        "headers" => ExchangeKind::Headers,
        "x-delayed-message" => match arguments.get("x-delayed-type").and_then(Field::text) {
            Some(inner) if inner != name => kind_of(inner, arguments)?,
            _ => {
                let text = "invalid argument, 'x-delayed-type' must be an existing exchange type";
                return Err(Fault::new(code::PRECONDITION_FAILED, text));
            }
        },
        _ => return Err(Fault::new(code::COMMAND_INVALID, format!("unknown exchange type '{name}'"))),
    })
}

/// What of an exchange is not as asked.
fn mismatch(name: &str, asked: &ExchangeOptions<'_>, work: &mut Work<'_>) -> &'static str {
    match work.broker.execute(Command::FindExchange { name }) {
        Ok(Reply::Exchange { kind, .. }) if kind != asked.kind => "type",
        Ok(Reply::Exchange { durable, .. }) if durable != asked.durable => "durable",
        Ok(Reply::Exchange { auto_delete, .. }) if auto_delete != asked.auto_delete => "auto_delete",
        Ok(Reply::Exchange { internal, .. }) if internal != asked.internal => "internal",
        _ => "alternate-exchange",
    }
}
