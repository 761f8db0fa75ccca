//! The lists a binding stands in, and its place in the match tree: hanging and dropping slots.
//!
//! Invariants of the lists, kept by every function here
//! - The slots of one node stand side by side in the list of their exchange; the node names the
//!   first of them and [`LAST`] stands on the last.
//! - The shadows of a binding follow its primary slot in the list of their destination.
//! - A slot's node exists as long as the slot does; dropping the last slot of a node prunes it.

use super::{Bindings, Bond, Target};
use crate::command::Grade;
use crate::model::key::Form;
use crate::model::link::{chained, Limit, Link, Packed};
use crate::model::text::TextId;
use crate::units::{ExchangeId, QueueId};

const TO_EXCHANGE: u8 = 1;
pub(super) const SLASHES: u8 = 1 << 1;
/// Not for keys that begin with `$`.
pub(super) const SHY: u8 = 1 << 2;
pub(super) const SHADOW: u8 = 1 << 3;
/// The last of its node.
pub(super) const LAST: u8 = 1 << 4;
/// The tree does not hold the key.
pub(super) const KEEPS_KEY: u8 = 1 << 5;
/// Grade plus one; 0 is a vacant slot.
const GRADE_SHIFT: u8 = 6;

/// Room for one binding.
#[derive(Clone, Copy, Debug, Default)]
pub struct BindingSlot {
    pub(super) node: Link,
    /// Next and previous of the exchange.
    pub(super) next: Link,
    before: Link,
    /// Next and previous of the destination.
    pub(super) to_next: Link,
    to_before: Link,
    pub(super) kept: TextId,
    to: u16,
    pub(super) at: Packed,
    pub(super) flags: u8,
}
chained!(BindingSlot, next);

impl Bindings<'_> {
    /// The link to the first binding of a destination.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn target_place(&mut self, target: Target) -> Option<&mut Link> {
        match target {
            Target::Queue(queue) => self.queues.get_mut(usize::from(queue.0)),
            Target::Exchange(exchange) => {
                self.sites.get_mut(usize::from(exchange.0)).map(|site| &mut site.to)
            }
        }
    }

    /// Hangs one slot of a binding on the node of one anchor: the primary slot if there is none
    /// yet, else a shadow of it. At a limit nothing is changed.
    pub(super) fn hang(
        &mut self,
        bond: &Bond<'_>,
        kept: TextId,
        anchor: usize,
        primary: Link,
    ) -> Result<Link, Limit> {
        let link = self.vacancies.take(self.slots);
        if link.is_none() {
            return Err(Limit("bindings"));
        }
        let node = match self.node_for(bond, anchor) {
            Ok(node) => node,
            Err(limit) => {
                self.vacancies.give(self.slots, link);
                return Err(limit);
            }
        };
        let (to, kind) = match bond.target {
            Target::Queue(queue) => (queue.0, 0),
            Target::Exchange(exchange) => (exchange.0, TO_EXCHANGE),
        };
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let flags = kind
            | flag(bond.pattern.form == Form::Slashes, SLASHES)
            | flag(bond.is_shy(), SHY)
            | flag(bond.keeps_key(), KEEPS_KEY)
            | flag(primary.is_some(), SHADOW);
        if let Some(slot) = self.slots.get_mut(link.index()) {
            *slot = BindingSlot { node, kept, to, flags, ..BindingSlot::default() };
        }
        self.join_exchange(link, node, bond.source.id);
        self.join_target(link, bond.target, primary);
        Ok(link)
    }

    /// The node a binding is to hang on, made if it is not there.
    fn node_for(&mut self, bond: &Bond<'_>, anchor: usize) -> Result<Link, Limit> {
        let Bindings { tree, texts, sites, seed, .. } = self;
        let site = sites.get_mut(usize::from(bond.source.id.0)).ok_or(Limit("exchanges"))?;
        if site.root.is_none() {
            site.root = tree.plant(bond.source.id)?;
        }
        let grown = bond.with_path(*seed, anchor, |path| tree.grow(texts, site.root, path));
        grown.map_err(|(limit, reached)| {
            if tree.prune(texts, reached).is_some() {
                site.root = Link::NONE;
            }
            limit
        })
    }

    /// Puts a slot among those of its node, or first of the exchange if the node has none.
    fn join_exchange(&mut self, link: Link, node: Link, exchange: ExchangeId) {
        let first_of_node = self.tree.bindings(node);
        let (before, after) = match self.slots.get_mut(first_of_node.index()) {
            Some(first) => {
                let last = first.flags & LAST;
                first.flags &= !LAST;
                let after = core::mem::replace(&mut first.next, link);
                if let Some(slot) = self.slots.get_mut(link.index()) {
                    slot.flags |= last;
                }
                (first_of_node, after)
            }
            None => {
                self.tree.set_bindings(node, link);
                if let Some(slot) = self.slots.get_mut(link.index()) {
                    slot.flags |= LAST;
                }
                let site = self.sites.get_mut(usize::from(exchange.0));
                (Link::NONE, site.map_or(Link::NONE, |site| core::mem::replace(&mut site.from, link)))
            }
        };
        if let Some(slot) = self.slots.get_mut(link.index()) {
            (slot.before, slot.next) = (before, after);
        }
        if let Some(slot) = self.slots.get_mut(after.index()) {
            slot.before = link;
        }
    }

    /// Puts a slot first into the list of its destination, a shadow behind its primary slot.
    fn join_target(&mut self, link: Link, target: Target, primary: Link) {
        let place = match self.slots.get_mut(primary.index()) {
            Some(slot) => Some(&mut slot.to_next),
            None => self.target_place(target),
        };
        let after = place.map_or(Link::NONE, |place| core::mem::replace(place, link));
        if let Some(slot) = self.slots.get_mut(link.index()) {
            (slot.to_before, slot.to_next) = (primary, after);
        }
        if let Some(slot) = self.slots.get_mut(after.index()) {
            slot.to_before = link;
        }
    }

    /// Drops a primary slot with its shadows and its text.
    pub(super) fn drop_all(&mut self, primary: Link) {
        let kept = self.slots.get(primary.index()).map(|slot| slot.kept).unwrap_or_default();
        self.drop_slots(primary);
        self.texts.free(kept);
    }

    /// Drops a primary slot with its shadows.
    pub(super) fn drop_slots(&mut self, primary: Link) {
        while let Some(shadow) = self.shadow_after(primary) {
            self.drop_slot(shadow);
        }
        self.drop_slot(primary);
    }

    /// The shadow that stands behind a slot.
    fn shadow_after(&self, link: Link) -> Option<Link> {
        let after = self.slots.get(link.index())?.to_next;
        let slot = self.slots.get(after.index())?;
        (slot.flags & SHADOW != 0).then_some(after)
    }

    pub(super) fn set_grade(&mut self, primary: Link, grade: Grade) {
        let mut link = Some(primary);
        while let Some(slot) = link.and_then(|link| self.slots.get_mut(link.index())) {
            slot.set_grade(grade);
            link = link.and_then(|link| self.shadow_after(link));
        }
    }

    /// Takes a slot out of all lists and prunes the tree above it.
    fn drop_slot(&mut self, link: Link) {
        let Some(slot) = self.slots.get(link.index()).copied() else { return };
        self.leave_exchange(link, &slot);
        if let Some(before) = self.slots.get_mut(slot.to_before.index()) {
            before.to_next = slot.to_next;
        } else if let Some(place) = self.target_place(slot.target()) {
            *place = slot.to_next;
        }
        if let Some(after) = self.slots.get_mut(slot.to_next.index()) {
            after.to_before = slot.to_before;
        }
        if let Some(slot) = self.slots.get_mut(link.index()) {
            slot.flags = 0;
        }
        self.vacancies.give(self.slots, link);
        if let Some(bare) = self.tree.prune(&mut self.texts, slot.node) {
            if let Some(site) = self.sites.get_mut(usize::from(bare.0)) {
                site.root = Link::NONE;
            }
        }
    }

    fn leave_exchange(&mut self, link: Link, slot: &BindingSlot) {
        let is_first = self.tree.bindings(slot.node) == link;
        let is_last = slot.flags & LAST != 0;
        if is_first {
            self.tree.set_bindings(slot.node, if is_last { Link::NONE } else { slot.next });
        }
        let exchange = self.tree.exchange(slot.node).unwrap_or_default();
        if let Some(before) = self.slots.get_mut(slot.before.index()) {
            before.next = slot.next;
            if is_last && !is_first {
                before.flags |= LAST;
            }
        } else if let Some(site) = self.sites.get_mut(usize::from(exchange.0)) {
            site.from = slot.next;
        }
        if let Some(after) = self.slots.get_mut(slot.next.index()) {
            after.before = slot.before;
        }
    }
}

impl BindingSlot {
    /// A vacant slot; fills tables.
    pub const EMPTY: BindingSlot = BindingSlot {
        node: Link::NONE,
        next: Link::NONE,
        before: Link::NONE,
        to_next: Link::NONE,
        to_before: Link::NONE,
        kept: TextId::NONE,
        to: 0,
        at: Packed::NONE,
        flags: 0,
    };

    pub(super) fn target(&self) -> Target {
        if self.flags & TO_EXCHANGE != 0 {
            Target::Exchange(ExchangeId(self.to))
        } else {
            Target::Queue(QueueId(self.to))
        }
    }

    /// None of a vacant slot.
    pub(super) fn grade(&self) -> Option<Grade> {
        match self.flags >> GRADE_SHIFT {
            1 => Some(Grade::AtMostOnce),
            2 => Some(Grade::AtLeastOnce),
            3 => Some(Grade::ExactlyOnce),
            _ => None,
        }
    }

    fn set_grade(&mut self, grade: Grade) {
        let bits = match grade {
            Grade::AtMostOnce => 1,
            Grade::AtLeastOnce => 2,
            Grade::ExactlyOnce => 3,
        };
        self.flags = self.flags & ((1 << GRADE_SHIFT) - 1) | bits << GRADE_SHIFT;
    }
}
