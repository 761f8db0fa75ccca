//! A record that reclaim comes upon, and that cannot be read any more.
//!
//! Whoever refers to it would keep its segment for ever. What the tables know is written anew; a message or a
//! retained value is lost, and said to be. This looks at everything there is, which damage is rare enough for.

use super::Broker;
use crate::flash::Flash;
use crate::log::ReadError;
use crate::model::entry::Flag;
use crate::model::flight::FlightIndex;
use crate::units::{At, ExchangeId, QueueId};

impl<F: Flash> Broker<'_, F> {
    /// Lets go of what stood in the record at `at`, if there was one.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn judge_lost(&mut self, at: At) {
        if self.state.retained.remove_at(at) {
            self.state.counters.damaged += 1;
            self.log.release(at);
        }
        for index in 0..self.state.queues.capacity() {
            let id = QueueId(index);
            if self.state.queues.get(id).is_some_and(|queue| queue.at == Some(at)) {
                let _ = self.rewrite_queue(id);
            }
            self.lose_at(id, at);
        }
        for index in 0..self.state.exchanges.capacity() {
            let id = ExchangeId(index as u16);
            if self.state.exchanges.get(id).is_some_and(|exchange| exchange.at == Some(at)) {
                let _ = self.rewrite_exchange(id);
            }
            self.let_go_of_bindings(id, at);
        }
    }

    /// The messages of a queue that stood there are lost.
    fn lose_at(&mut self, id: QueueId, at: At) {
        let Some(queue) = self.state.queues.place(id).filter(|queue| queue.stream().is_none()) else {
            return;
        };
        let mut here = self.state.pages.next_live(&queue.roots, None);
        while let Some(slot) = here {
            let Some(queue) = self.state.queues.place(id) else { return };
            here = self.state.pages.next_live(&queue.roots, Some(slot));
            if self.state.stands_at(slot) != Some(at) {
                continue;
            }
            let entry = self.state.pages.entry(slot).copied().unwrap_or_default();
            if entry.is(Flag::InFlight) {
                self.land(id, entry.at().0 as FlightIndex);
            }
            self.lose(id, slot, ReadError::Corrupt);
        }
    }

    /// The bindings from an exchange that stood there are written anew, or last until the next start.
    fn let_go_of_bindings(&mut self, from: ExchangeId, at: At) {
        #[cfg(feature = "gateway")]
        self.rewrite_binding_from(from, at);
        let mut next = self.state.bindings.first_from(from);
        while let Some(id) = next {
            if self.state.bindings.get(id).is_some_and(|binding| binding.at == Some(at)) {
                self.state.bindings.set_at(id, None);
                self.log.release(at);
            }
            next = self.state.bindings.next_from(id);
        }
    }
}
