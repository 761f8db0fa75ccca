//! Exchanges: what publishers name when they publish.
//!
//! A table by id and by name. Names are found by hash: every publish of some protocols names its
//! exchange, and a hash costs the same with six of them as with a thousand. The six exchanges
//! that AMQP promises are there from the start under ids 0 to 5; their names need no room.
//! An alternate exchange is kept by name, for it may be declared later or anew.
//!
//! Invariants: the slots of the predeclared exchanges are always taken; outside of routing no slot
//! is on the work list (see `router`).
//!
//! Limits: `exchanges`, `texts` for names, [`NAME_SIZE_MAX`].

use super::hash;
use super::link::{bucket, chain_add, chain_find, chain_remove, chained, Limit, Link, Packed};
use super::text::{Cell, TextId, TextPool};
use super::{
    binding::Source,
    key::{Form, Key},
};
use crate::command::{ExchangeKind, ExchangeOptions};
use crate::units::{At, ExchangeId};

/// Memory for a name that is shown.
pub type Shown = [u8; SHOWN_SIZE];
const SHOWN_SIZE: usize = if cfg!(feature = "gateway") { NAME_SIZE_MAX } else { 0 };
/// No name.
pub const UNNAMED: Shown = [0; SHOWN_SIZE];

/// Most bytes of a name.
pub const NAME_SIZE_MAX: usize = 255;

/// Names and kinds of the exchanges that always exist, by id.
pub const PREDECLARED: [(&str, ExchangeKind); 6] = [
    ("", ExchangeKind::Direct),
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
];

/// The default exchange: it routes to the queue whose name is the key.
pub const DEFAULT: ExchangeId = ExchangeId(0);
/// `amq.topic`, which is MQTT's topic space.
pub const TOPIC: ExchangeId = ExchangeId(3);

const KIND: u8 = 0b11;
const TAKEN: u8 = 1 << 2;
const DURABLE: u8 = 1 << 3;
const AUTO_DELETE: u8 = 1 << 4;
const INTERNAL: u8 = 1 << 5;
/// It has, or had, a binding.
const BOUND: u8 = 1 << 6;

/// Room for one exchange.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExchangeSlot {
    head: Link,
    next: Link,
    /// The exchange after this one that a message goes through; of the last one itself.
    work: Link,
    name: TextId,
    alternate: TextId,
    at: Packed,
    flags: u8,
}
chained!(ExchangeSlot, next, head);

/// What is asked of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declaration<'n> {
    /// Its name.
    pub name: &'n str,
    /// What it is to be.
    pub options: ExchangeOptions<'n>,
}

/// What became of a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// It is new.
    Made(ExchangeId),
    /// It was there, and as asked.
    Existed(ExchangeId),
}

/// Why an exchange was not declared or deleted. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeError {
    /// It is there, but not as asked.
    Mismatch,
    /// The name is reserved (`amq.` and the default exchange).
    Reserved,
    /// There is no such exchange.
    Unknown,
    /// A table is full or the name too long; the name is that of the limit.
    Limit(&'static str),
}

impl From<Limit> for ExchangeError {
    fn from(limit: Limit) -> ExchangeError {
        ExchangeError::Limit(limit.0)
    }
}

/// An exchange as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Which.
    pub id: ExchangeId,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Survives a restart.
    pub durable: bool,
    /// Goes when the last binding from it goes.
    pub auto_delete: bool,
    /// Refuses what clients publish.
    pub internal: bool,
    /// There is a binding from it, or there was one.
    pub was_bound: bool,
    /// Where its declaration stands in the log.
    pub at: Option<At>,
}

/// All exchanges.
#[derive(Debug)]
pub struct Exchanges<'a> {
    slots: &'a mut [ExchangeSlot],
    texts: TextPool<'a>,
    /// No slot below this index is vacant.
    vacant_from: usize,
    seed: u64,
}

impl<'a> Exchanges<'a> {
    /// The predeclared exchanges over zeroed (default) slots, of which at most 65,535 are used; the
    /// seed is secret and may differ from boot to boot.
    pub fn new(
        slots: &'a mut [ExchangeSlot],
        cells: &'a mut [Cell],
        seed: u64,
    ) -> Result<Exchanges<'a>, Limit> {
        let usable = slots.len().min(usize::from(u16::MAX)).min(Link::SLOTS_MAX);
        let slots = slots.get_mut(..usable).unwrap_or_default();
        let mut exchanges = Exchanges { slots, texts: TextPool::new(cells), vacant_from: 0, seed };
        for (index, (name, kind)) in PREDECLARED.into_iter().enumerate() {
            let home = exchanges.name_bucket(name);
            let slot = exchanges.slots.get_mut(index).ok_or(Limit("exchanges"))?;
            slot.flags = TAKEN | DURABLE | kind_bits(kind);
            chain_add(exchanges.slots, home, Link::to(index));
        }
        exchanges.vacant_from = PREDECLARED.len();
        Ok(exchanges)
    }

    /// Makes an exchange, or checks that the one of that name is as asked.
    pub fn declare(&mut self, asked: &Declaration<'_>) -> Result<Declared, ExchangeError> {
        if let Some(id) = self.find(asked.name) {
            return match self.is_as_asked(id, asked) {
                true => Ok(Declared::Existed(id)),
                false => Err(ExchangeError::Mismatch),
            };
        }
        if asked.name.starts_with("amq.") {
            return Err(ExchangeError::Reserved);
        }
        let vacant = self.slots.iter().skip(self.vacant_from).position(|slot| slot.flags & TAKEN == 0);
        let index = vacant.ok_or(Limit("exchanges"))?.wrapping_add(self.vacant_from);
        let id = ExchangeId(index as u16);
        self.place(id, asked)?;
        self.vacant_from = index.wrapping_add(1);
        Ok(Declared::Made(id))
    }

    /// Makes an exchange under the id it had before a restart.
    pub fn restore(&mut self, id: ExchangeId, asked: &Declaration<'_>) -> Result<(), ExchangeError> {
        match self.slot(id) {
            None if self.find(asked.name).is_none() => self.place(id, asked),
            Some(_) if self.find(asked.name) == Some(id) && self.is_as_asked(id, asked) => Ok(()),
            _ => Err(ExchangeError::Mismatch),
        }
    }

    /// Removes an exchange. Its bindings are the caller's to remove first.
    pub fn delete(&mut self, id: ExchangeId) -> Result<(), ExchangeError> {
        if usize::from(id.0) < PREDECLARED.len() {
            return Err(ExchangeError::Reserved);
        }
        let slot = *self.slot(id).ok_or(ExchangeError::Unknown)?;
        let mut name = [0; NAME_SIZE_MAX];
        let home = self.name_bucket(self.name(id, &mut name).unwrap_or_default());
        let index = usize::from(id.0);
        chain_remove(self.slots, home, Link::to(index));
        self.texts.free(slot.name);
        self.texts.free(slot.alternate);
        if let Some(vacant) = self.slots.get_mut(index) {
            *vacant = ExchangeSlot { head: vacant.head, ..ExchangeSlot::default() };
        }
        self.vacant_from = self.vacant_from.min(index);
        Ok(())
    }

    /// The exchange of a name.
    pub fn find(&self, name: &str) -> Option<ExchangeId> {
        let mut link = chain_find(self.slots, self.name_bucket(name), |_| true);
        while let Some(slot) = self.slots.get(link.index()) {
            let is_it = match PREDECLARED.get(link.index()) {
                Some((fixed, _)) => *fixed == name,
                None => self.texts.equals(slot.name, name.as_bytes(), Form::Dots),
            };
            if is_it {
                return Some(ExchangeId(link.index() as u16));
            }
            link = slot.next;
        }
        None
    }

    /// An exchange.
    pub fn get(&self, id: ExchangeId) -> Option<Exchange> {
        let slot = self.slot(id)?;
        let is = |flag| slot.flags & flag != 0;
        Some(Exchange {
            id,
            kind: slot.kind(),
            durable: is(DURABLE),
            auto_delete: is(AUTO_DELETE),
            internal: is(INTERNAL),
            was_bound: is(BOUND),
            at: slot.at.at(),
        })
    }

    /// It goes when the last binding from it goes; the core alone has no such exchange.
    pub fn goes_unbound(&self, id: ExchangeId) -> bool {
        cfg!(feature = "gateway") && self.slot(id).is_some_and(|slot| slot.flags & AUTO_DELETE != 0)
    }

    /// The name of an exchange, as far as a delivery tells it: the core alone knows those that always
    /// exist.
    pub fn shown<'b>(&self, id: ExchangeId, into: &'b mut Shown) -> &'b str {
        #[cfg(feature = "gateway")]
        return self.name(id, into).unwrap_or_default();
        #[cfg(not(feature = "gateway"))]
        {
            let _ = into;
            PREDECLARED.get(usize::from(id.0)).map_or("", |(name, _)| name)
        }
    }

    /// An exchange as the source of bindings.
    pub fn source(&self, id: ExchangeId) -> Option<Source> {
        self.slot(id).map(|slot| Source { id, kind: slot.kind() })
    }

    /// The name of an exchange. None if there is no such, or the buffer is too small.
    pub fn name<'b>(&self, id: ExchangeId, into: &'b mut [u8]) -> Option<&'b str> {
        if let (Some((name, _)), Some(_)) = (PREDECLARED.get(usize::from(id.0)), self.slot(id)) {
            return Some(name);
        }
        self.texts.copy_str(self.slot(id)?.name, into)
    }

    /// The name of the alternate exchange. None if there is none, or the buffer is too small.
    pub fn alternate_name<'b>(&self, id: ExchangeId, into: &'b mut [u8]) -> Option<&'b str> {
        let alternate = Some(self.slot(id)?.alternate).filter(|text| !text.is_empty())?;
        self.texts.copy_str(alternate, into)
    }

    /// The alternate exchange, if it exists now.
    pub fn alternate(&self, id: ExchangeId) -> Option<ExchangeId> {
        let mut name = [0; NAME_SIZE_MAX];
        self.find(self.alternate_name(id, &mut name)?)
    }

    /// Notes where the declaration of an exchange stands in the log.
    pub fn set_at(&mut self, id: ExchangeId, at: Option<At>) {
        if let Some(slot) = self.slots.get_mut(usize::from(id.0)) {
            slot.at = Packed::from_at(at);
        }
    }

    /// Notes that there is a binding from an exchange.
    pub fn set_bound(&mut self, id: ExchangeId) {
        if let Some(slot) = self.slots.get_mut(usize::from(id.0)) {
            slot.flags |= BOUND;
        }
    }

    /// All exchanges, by id.
    pub fn iter(&self) -> impl Iterator<Item = Exchange> + '_ {
        (0..self.slots.len()).filter_map(|index| self.get(ExchangeId(index as u16)))
    }

    /// Number of slots, taken or not.
    pub const fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Cells of text in use.
    pub fn cells_used(&self) -> usize {
        self.texts.used()
    }

    /// Puts an exchange on the end of the work list, unless it is or was on it.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn enlist(&mut self, id: ExchangeId, last: &mut ExchangeId) {
        let link = Link::to(usize::from(id.0));
        match self.slots.get_mut(link.index()) {
            Some(slot) if slot.flags & TAKEN != 0 && slot.work.is_none() => slot.work = link,
            _ => return,
        }
        if let Some(before) = self.slots.get_mut(usize::from(last.0)) {
            before.work = link;
            *last = id;
        }
    }

    /// The exchange after this one on the work list.
    pub(super) fn following(&self, id: ExchangeId) -> Option<ExchangeId> {
        let work = self.slots.get(usize::from(id.0))?.work;
        let after = ExchangeId(work.index() as u16);
        (work.is_some() && after != id).then_some(after)
    }

    /// Empties the work list.
    pub(super) fn dismiss(&mut self, first: ExchangeId) {
        let mut next = Some(first);
        while let Some(id) = next {
            next = self.following(id);
            if let Some(slot) = self.slots.get_mut(usize::from(id.0)) {
                slot.work = Link::NONE;
            }
        }
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn slot(&self, id: ExchangeId) -> Option<&ExchangeSlot> {
        self.slots.get(usize::from(id.0)).filter(|slot| slot.flags & TAKEN != 0)
    }

    fn name_bucket(&self, name: &str) -> usize {
        bucket(hash::hash_bytes(self.seed, name.as_bytes()), self.slots.len())
    }

    fn is_as_asked(&self, id: ExchangeId, asked: &Declaration<'_>) -> bool {
        let alternate = asked.options.alternate.unwrap_or_default().as_bytes();
        self.slot(id).is_some_and(|slot| {
            slot.flags & !BOUND == flags(&asked.options)
                && self.texts.equals(slot.alternate, alternate, Form::Dots)
        })
    }

    /// Fills a vacant slot.
    fn place(&mut self, id: ExchangeId, asked: &Declaration<'_>) -> Result<(), ExchangeError> {
        let alternate = asked.options.alternate.unwrap_or_default();
        if asked.name.len().max(alternate.len()) > NAME_SIZE_MAX {
            return Err(ExchangeError::Limit("name size"));
        }
        let index = usize::from(id.0);
        if index >= self.slots.len() {
            return Err(ExchangeError::Limit("exchanges"));
        }
        let name = self.texts.store(Key::dots(asked.name.as_bytes()))?;
        let alternate = match self.texts.store(Key::dots(alternate.as_bytes())) {
            Ok(alternate) => alternate,
            Err(limit) => {
                self.texts.free(name);
                return Err(limit.into());
            }
        };
        if let Some(slot) = self.slots.get_mut(index) {
            let flags = flags(&asked.options);
            *slot = ExchangeSlot { head: slot.head, name, alternate, flags, ..ExchangeSlot::default() };
        }
        let home = self.name_bucket(asked.name);
        chain_add(self.slots, home, Link::to(index));
        Ok(())
    }
}

impl ExchangeSlot {
    /// A vacant slot; fills tables.
    pub const EMPTY: ExchangeSlot = ExchangeSlot {
        head: Link::NONE,
        next: Link::NONE,
        work: Link::NONE,
        name: TextId::NONE,
        alternate: TextId::NONE,
        at: Packed::NONE,
        flags: 0,
    };

    fn kind(&self) -> ExchangeKind {
        match self.flags & KIND {
            0 => ExchangeKind::Direct,
            1 => ExchangeKind::Fanout,
            2 => ExchangeKind::Topic,
            _ => ExchangeKind::Headers,
        }
    }
}

/// The flags of an exchange that is as asked.
fn flags(options: &ExchangeOptions<'_>) -> u8 {
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    let durable = flag(options.durable, DURABLE);
    let rest = flag(options.auto_delete, AUTO_DELETE) | flag(options.internal, INTERNAL);
    TAKEN | durable | rest | kind_bits(options.kind)
}

const fn kind_bits(kind: ExchangeKind) -> u8 {
    match kind {
        ExchangeKind::Direct => 0,
        ExchangeKind::Fanout => 1,
        ExchangeKind::Topic => 2,
        ExchangeKind::Headers => 3,
    }
}
