//! Topology: from names to ids, from a message to the queues it goes to.
//!
//! The tables of exchanges and bindings do the matching; here their answers become one list
//! of routes in which every queue stands once, with the most it was asked for.

use super::meta::BindingMeta;
use super::record::Route;
use super::state::State;
use crate::command::{Bind, Destination, ExchangeOptions, Grade, Publish, Refusal};
use crate::model::bond::{Bond, Source, Target};
use crate::model::entry::grade_from_bits;
use crate::model::exchange::{Declaration, DEFAULT};
use crate::model::key::{Form, Key};
use crate::model::queues::Queues;
use crate::model::router::{Keys, Router};
use crate::units::{At, BindingId, ExchangeId, QueueId};

impl State<'_> {
    /// Fills the table of routes for a message and notes the exchange; returns their number.
    pub(super) fn collect_routes(
        &mut self,
        exchange: &str,
        keys: Keys<'_>,
        headers: &[u8],
    ) -> Result<usize, Refusal> {
        self.mark = self.mark.wrapping_add(1);
        let id = self.exchanges.find(exchange).ok_or(Refusal::NoExchange)?;
        self.source = id;
        if id == DEFAULT {
            let mut count = 0;
            for key in keys.iter() {
                let queue = core::str::from_utf8(key.text).ok().and_then(|name| self.find_queue(name));
                let mut list =
                    RouteList { routes: self.routes, queues: &mut self.queues, mark: self.mark, count };
                queue.into_iter().for_each(|id| list.add(id, Grade::ExactlyOnce));
                count = list.count;
            }
            return Ok(count);
        }
        let mut list = RouteList { routes: self.routes, queues: &mut self.queues, mark: self.mark, count: 0 };
        let mut router = Router { exchanges: &mut self.exchanges, bindings: &mut self.bindings };
        let routed = router.route(id, keys, headers, &mut |_| None, &mut |id, grade| list.add(id, grade));
        routed.map_err(|limit| Refusal::Limit(limit.0))?;
        Ok(list.count)
    }

    /// Whether clients may not publish to the exchange that was routed through last.
    pub(super) fn is_source_internal(&self) -> bool {
        self.exchanges.get(self.source).is_some_and(|exchange| exchange.internal)
    }

    /// Puts the routes that are certain to be stored to the front; returns their number. The
    /// others may be done by handing the message over at once, or by nobody being there.
    pub(super) fn sort_routes(&mut self, publish: &Publish<'_>, count: usize) -> usize {
        let queues = &self.queues;
        partition(self.routes, count, |route| {
            let Some(queue) = queues.get(route.queue) else { return false };
            let fleeting = queue.is_fleeting(route.grade);
            publish.delay_ms.is_some() && !fleeting || queue.is_stream() || publish.durable && !fleeting
        })
    }

    /// Drops the routes that are not wanted; returns how many remain, at the front.
    pub(super) fn keep_routes(&mut self, count: usize, wanted: impl Fn(&Route) -> bool) -> usize {
        partition(self.routes, count, wanted)
    }

    /// The ends of a binding.
    pub(super) fn bond<'k>(&self, bind: &Bind<'k>) -> Result<Bond<'k>, Refusal> {
        let source = self.exchanges.find(bind.exchange).ok_or(Refusal::NoExchange)?;
        let source = self.exchanges.source(source).ok_or(Refusal::NoExchange)?;
        let target = match bind.destination {
            Destination::Queue(name) => Target::Queue(self.find_queue(name).ok_or(Refusal::NoQueue)?),
            Destination::Exchange(name) => {
                Target::Exchange(self.exchanges.find(name).ok_or(Refusal::NoExchange)?)
            }
        };
        Ok(Bond { source, target, pattern: bind.pattern, arguments: bind.arguments })
    }

    /// Whether a binding is worth keeping over a restart: both its ends are.
    pub(super) fn is_durable_bond(&self, bond: &Bond<'_>) -> bool {
        let is_durable = |id: ExchangeId| self.exchanges.get(id).is_some_and(|exchange| exchange.durable);
        let target = match bond.target {
            Target::Queue(id) => self.queues.get(id).is_some_and(|queue| queue.policy.durable),
            Target::Exchange(id) => is_durable(id),
        };
        target && is_durable(bond.source.id)
    }

    /// Where a binding that equals this one in everything is written; none if there is none, or it is not.
    pub(super) fn equal_binding(&self, bond: &Bond<'_>, grade: Grade) -> Option<At> {
        let binding = self.bindings.get(self.bindings.find(bond)?)?;
        binding.at.filter(|_| binding.grade == grade)
    }

    /// Makes the binding of a record.
    pub(super) fn bind_meta(&mut self, meta: &BindingMeta<'_>) -> Result<BindingId, &'static str> {
        let bond = bond_of_meta(meta);
        let bound = self.bindings.bind(&bond, grade_from_bits(meta.grade)).map_err(|_| "bindings")?;
        self.exchanges.set_bound(meta.exchange);
        Ok(bound.id())
    }

    /// Unmakes the binding of a record.
    pub(super) fn unbind_meta(&mut self, meta: &BindingMeta<'_>) {
        self.bindings.unbind(&bond_of_meta(meta));
    }

    /// Makes the exchange of a record.
    pub(super) fn restore_exchange(
        &mut self,
        id: ExchangeId,
        name: &str,
        options: ExchangeOptions<'_>,
        at: At,
    ) -> Result<(), crate::log::RestoreError> {
        let declaration = Declaration { name, options };
        let limit = crate::log::RestoreError::Limit("exchanges");
        self.exchanges.restore(id, &declaration).map_err(|_| limit)?;
        self.exchanges.set_at(id, Some(at));
        Ok(())
    }

    /// Forgets an exchange and its bindings.
    pub(super) fn forget_exchange(&mut self, id: ExchangeId) {
        self.bindings.remove_exchange(id, &mut |_, _| {});
        let _ = self.exchanges.delete(id);
    }

    /// Drops exchanges and bindings whose end found no room in the log, and that the head was moved over.
    pub(super) fn drop_passed_nouns(&mut self, is_passed: impl Fn(Option<At>) -> bool) {
        for index in 0..self.exchanges.capacity() {
            let id = ExchangeId(index as u16);
            if is_passed(self.exchanges.get(id).and_then(|exchange| exchange.at)) {
                self.forget_exchange(id);
            }
            let mut next = self.bindings.first_from(id);
            while let Some(binding) = next {
                next = self.bindings.next_from(binding);
                if is_passed(self.bindings.get(binding).and_then(|binding| binding.at)) {
                    self.bindings.remove(binding);
                }
            }
        }
    }

    /// Drops bindings and held keys whose ends are not there; true if there were any. Notes those
    /// of exchanges that reclaim has moved behind them.
    pub(super) fn drop_loose_bindings(&mut self) -> bool {
        let mut count = 0_usize;
        for index in 0..self.queues.capacity() {
            let id = QueueId(index);
            if self.queues.get(id).is_none() {
                self.bindings
                    .remove_destination(Target::Queue(id), &mut |_, _| count = count.saturating_add(1));
                count = count.saturating_add(self.dedup.forget_queue(id));
            }
        }
        for index in 0..self.exchanges.capacity() {
            let id = ExchangeId(index as u16);
            if self.exchanges.get(id).is_none() {
                self.bindings.remove_exchange(id, &mut |_, _| count = count.saturating_add(1));
            } else if self.exchanges.goes_unbound(id) && self.bindings.first_from(id).is_some() {
                self.exchanges.set_bound(id);
            }
        }
        count > 0
    }

    /// Shows where every exchange and binding stands in the log.
    pub(super) fn for_each_declared(&self, mut visit: impl FnMut(At)) {
        for exchange in self.exchanges.iter() {
            exchange.at.into_iter().for_each(&mut visit);
            let mut next = self.bindings.first_from(exchange.id);
            while let Some(id) = next {
                self.bindings.get(id).and_then(|binding| binding.at).into_iter().for_each(&mut visit);
                next = self.bindings.next_from(id);
            }
        }
    }
}

/// The binding of a record.
#[cfg_attr(not(feature = "gateway"), inline(never))]
pub(super) fn bond_of_meta<'k>(meta: &BindingMeta<'k>) -> Bond<'k> {
    let form = if meta.slashes { Form::Slashes } else { Form::Dots };
    let target = match meta.to_exchange {
        true => Target::Exchange(ExchangeId(meta.destination)),
        false => Target::Queue(QueueId(meta.destination)),
    };
    Bond {
        source: Source { id: meta.exchange, kind: meta.kind },
        target,
        pattern: Key { text: meta.pattern, form },
        arguments: meta.arguments,
    }
}

/// Collects routes so that every queue stands in them once.
struct RouteList<'s, 'a> {
    routes: &'s mut [Route],
    queues: &'s mut Queues<'a>,
    mark: u32,
    count: usize,
}

impl RouteList<'_, '_> {
    fn add(&mut self, id: QueueId, grade: Grade) {
        // A group gets its messages from its stream: one of its own would have no place there.
        let Some(queue) = self.queues.get_mut(id).filter(|queue| queue.stream().is_none()) else { return };
        if queue.mark == self.mark {
            if let Some(route) = self.routes.get_mut(queue.mark_place as usize) {
                route.grade = route.grade.max(grade);
            }
            return;
        }
        if let Some(place) = self.routes.get_mut(self.count) {
            *place = Route { queue: id, grade, ..Route::EMPTY };
            queue.mark = self.mark;
            queue.mark_place = self.count as u16;
            self.count += 1;
        }
    }
}

/// Moves what is wanted to the front, in its order; returns its number.
pub(super) fn partition(routes: &mut [Route], count: usize, wanted: impl Fn(&Route) -> bool) -> usize {
    let mut front = 0;
    for place in 0..count.min(routes.len()) {
        if routes.get(place).is_some_and(&wanted) {
            if place < routes.len() && front < routes.len() {
                routes.swap(front, place);
            }
            front += 1;
        }
    }
    front
}
