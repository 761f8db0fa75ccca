//! Bindings: which messages of an exchange go where.
//!
//! A binding hangs on a node of the match tree (see `tree`): under its words in a topic
//! exchange, under its whole key in a direct one, at the root in a fanout one. In a headers
//! exchange it hangs under one header that must be there for it to match (see
//! `headers::anchors`), or at the root if no such header exists, and is verified. So routing costs
//! what matches, and unbinding what is unbound, however many other bindings there are.
//! ```text
//! exchange ─► b3 ⇄ b7 ⇄ b1 ⇄ b4        all of an exchange; those of one node side by side,
//!             └─ node ─┘  └ node         the node names the first, a mark stands on the last
//! queue ────► b7 ⇄ b2                    all that lead to it, from whatever exchange
//! ```
//! A binding that asks for `any` of several headers hangs under each: it takes one slot more for
//! every further one, a *shadow*, which stands behind it in the list of its destination.
//!
//! Key and arguments belong to the identity of a binding even where they do not route: what the
//! tree does not hold of them is kept as text (`kept`: key size, key, arguments).
//!
//! Limits: `bindings` (slots), `nodes`, `texts`, `words`, and the tables of exchanges and queues.

use super::bond::{anchor_word, kept_arguments, kept_key_size, whole};
pub use super::bond::{Bond, Source, Target};
use super::headers;
use super::key::{Form, Key};
use super::link::{Limit, Link, Packed, Vacancies};
use super::text::{Cell, TextPool};
use super::topics::{self, Step};
use super::tree::{Node, Part, Tree};
use crate::command::{ExchangeKind, Grade};
use crate::units::{At, BindingId, ExchangeId};

mod lists;
pub use lists::BindingSlot;
use lists::{KEEPS_KEY, LAST, SHADOW, SHY, SLASHES};

/// What an exchange has in the tables of bindings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Site {
    root: Link,
    /// First binding it routes by.
    from: Link,
    /// First binding that leads to it.
    to: Link,
}

impl Site {
    /// An exchange without bindings; fills tables.
    pub const EMPTY: Site = Site { root: Link::NONE, from: Link::NONE, to: Link::NONE };
}

/// A binding as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The exchange that routes.
    pub exchange: ExchangeId,
    /// Where to.
    pub target: Target,
    /// The most its messages are handed over with.
    pub grade: Grade,
    /// Where its declaration stands in the log.
    pub at: Option<At>,
}

/// What became of a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It is new.
    Made(BindingId),
    /// There was an equal one; it has the new grade.
    Existed(BindingId),
}

impl Bound {
    /// The binding, new or not.
    pub const fn id(self) -> BindingId {
        match self {
            Bound::Made(id) | Bound::Existed(id) => id,
        }
    }
}

/// Why a binding was not made. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindError {
    /// A table is full, or the key too long; the name is that of the limit.
    Limit(&'static str),
    /// The arguments are malformed.
    Malformed,
}

impl From<Limit> for BindError {
    fn from(limit: Limit) -> BindError {
        BindError::Limit(limit.0)
    }
}

/// What the bindings borrow, all zeroed (default).
#[derive(Debug, Default)]
pub struct BindingStorage<'a> {
    /// Nodes of the match tree: about one for every word of every pattern.
    pub nodes: &'a mut [Node],
    /// The bindings.
    pub bindings: &'a mut [BindingSlot],
    /// Text of the words and arguments.
    pub cells: &'a mut [Cell],
    /// One for each exchange.
    pub exchanges: &'a mut [Site],
    /// One for each queue.
    pub queues: &'a mut [Link],
}

/// All bindings of all exchanges.
#[derive(Debug)]
pub struct Bindings<'a> {
    tree: Tree<'a>,
    texts: TextPool<'a>,
    slots: &'a mut [BindingSlot],
    vacancies: Vacancies,
    sites: &'a mut [Site],
    queues: &'a mut [Link],
    seed: u64,
}

impl<'a> Bindings<'a> {
    /// No bindings; the seed is secret and may differ from boot to boot.
    pub fn new(storage: BindingStorage<'a>, seed: u64) -> Bindings<'a> {
        Bindings {
            tree: Tree::new(storage.nodes, seed),
            texts: TextPool::new(storage.cells),
            slots: storage.bindings,
            vacancies: Vacancies::new(),
            sites: storage.exchanges,
            queues: storage.queues,
            seed,
        }
    }

    /// Makes a binding, or gives an equal one this grade.
    pub fn bind(&mut self, bond: &Bond<'_>, grade: Grade) -> Result<Bound, BindError> {
        self.admit(bond)?;
        if let Some(id) = self.find(bond) {
            self.set_grade(Link::to(id.0 as usize), grade);
            return Ok(Bound::Existed(id));
        }
        let kept = self.texts.store_parts(&bond.kept(&mut [0; 2]))?;
        let mut primary = Link::NONE;
        for anchor in 0..bond.anchor_count() {
            match self.hang(bond, kept, anchor, primary) {
                Ok(link) if primary.is_none() => primary = link,
                Ok(_) => {}
                Err(limit) => {
                    self.drop_slots(primary);
                    self.texts.free(kept);
                    return Err(limit.into());
                }
            }
        }
        self.set_grade(primary, grade);
        Ok(Bound::Made(BindingId(primary.index() as u32)))
    }

    /// The binding that equals this one in all but grade.
    pub fn find(&self, bond: &Bond<'_>) -> Option<BindingId> {
        let root = self.site(bond.source.id)?.root;
        let node = bond.with_path(self.seed, 0, |path| self.tree.seek(&self.texts, root, path))?;
        let shy = if bond.is_shy() { SHY } else { 0 };
        let mut key_size = [0; 2];
        let kept = bond.kept(&mut key_size);
        // A binding stands in both lists, so the shorter one decides.
        let (mut of_node, mut of_target) = (self.tree.bindings(node), self.first_link_to(bond.target));
        loop {
            let (one, two) = (self.slots.get(of_node.index())?, self.slots.get(of_target.index())?);
            for (link, slot) in [(of_node, one), (of_target, two)] {
                let same = slot.node == node
                    && slot.target() == bond.target
                    && slot.flags & (SHY | SHADOW) == shy
                    && self.texts.equals_parts(slot.kept, &kept);
                if same {
                    return Some(BindingId(link.index() as u32));
                }
            }
            of_node = if one.flags & LAST != 0 { Link::NONE } else { one.next };
            of_target = two.to_next;
        }
    }

    /// Removes the binding that equals this one in all but grade; returns what it was.
    pub fn unbind(&mut self, bond: &Bond<'_>) -> Option<Binding> {
        self.find(bond).and_then(|id| self.remove(id))
    }

    /// Removes a binding; returns what it was.
    pub fn remove(&mut self, id: BindingId) -> Option<Binding> {
        let binding = self.get(id)?;
        self.drop_all(Link::to(id.0 as usize));
        Some(binding)
    }

    /// Removes all bindings that lead somewhere, showing each before it goes; in time by their
    /// number.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn remove_destination(&mut self, target: Target, gone: &mut dyn FnMut(&Self, BindingId)) {
        while let Some(id) = self.first_to(target) {
            gone(self, id);
            self.drop_all(Link::to(id.0 as usize));
        }
    }

    /// Removes all bindings from and to an exchange, showing each before it goes; in time by their
    /// number.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn remove_exchange(&mut self, exchange: ExchangeId, gone: &mut dyn FnMut(&Self, BindingId)) {
        while let Some(id) = self.first_from(exchange) {
            gone(self, id);
            self.drop_all(Link::to(id.0 as usize));
        }
        self.remove_destination(Target::Exchange(exchange), gone);
    }

    /// A binding.
    pub fn get(&self, id: BindingId) -> Option<Binding> {
        let slot = self.slots.get(id.0 as usize)?;
        let grade = slot.grade().filter(|_| slot.flags & SHADOW == 0)?;
        let exchange = self.tree.exchange(slot.node)?;
        Some(Binding { exchange, target: slot.target(), grade, at: slot.at.at() })
    }

    /// Notes where the declaration of a binding stands in the log.
    pub fn set_at(&mut self, id: BindingId, at: Option<At>) {
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            slot.at = Packed::from_at(at);
        }
    }

    /// The key or pattern of a binding, spelled as it was bound. None if the buffer is too small.
    pub fn pattern<'b>(&self, id: BindingId, into: &'b mut [u8]) -> Option<Key<'b>> {
        self.get(id)?;
        let slot = self.slots.get(id.0 as usize)?;
        let form = if slot.flags & SLASHES != 0 { Form::Slashes } else { Form::Dots };
        let mut start = into.len();
        if slot.flags & KEEPS_KEY != 0 {
            let mut kept = self.texts.bytes(slot.kept);
            let size = kept_key_size(&mut kept);
            prepend(into, &mut start, kept, size, form)?;
        } else {
            self.spell_path(slot.node, form, into, &mut start)?;
        }
        Some(Key { text: into.get(start..)?, form })
    }

    /// The arguments of a binding. None if the buffer is too small.
    pub fn arguments<'b>(&self, id: BindingId, into: &'b mut [u8]) -> Option<&'b [u8]> {
        self.get(id)?;
        let slot = self.slots.get(id.0 as usize)?;
        let arguments = kept_arguments(self.texts.bytes(slot.kept));
        let (place, _) = into.split_at_mut_checked(arguments.clone().count())?;
        for (to, from) in place.iter_mut().zip(arguments) {
            *to = from;
        }
        Some(place)
    }

    /// First binding that leads somewhere.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn first_to(&self, target: Target) -> Option<BindingId> {
        self.primary(self.first_link_to(target), |slot| slot.to_next)
    }

    /// The binding after this one that leads to the same place.
    pub fn next_to(&self, id: BindingId) -> Option<BindingId> {
        self.primary(self.slots.get(id.0 as usize)?.to_next, |slot| slot.to_next)
    }

    /// First binding an exchange routes by.
    pub fn first_from(&self, exchange: ExchangeId) -> Option<BindingId> {
        self.primary(self.site(exchange)?.from, |slot| slot.next)
    }

    /// The binding after this one of the same exchange.
    pub fn next_from(&self, id: BindingId) -> Option<BindingId> {
        self.primary(self.slots.get(id.0 as usize)?.next, |slot| slot.next)
    }

    /// Shows where a message of an exchange goes; a destination as often as bindings lead to it.
    /// Refuses a key with too many words for a topic exchange before anything is shown.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn route(
        &mut self,
        source: Source,
        key: Key<'_>,
        message_headers: &[u8],
        sink: &mut impl FnMut(Target, Grade),
    ) -> Result<(), Limit> {
        let Some(root) = self.site(source.id).map(|site| site.root).filter(|root| root.is_some()) else {
            return Ok(());
        };
        let Bindings { tree, texts, slots, seed, .. } = self;
        let mut show = |first: Link, headers: Option<&[u8]>| {
            show(slots, texts, topics::is_hidden(key), first, headers, sink);
        };
        match source.kind {
            ExchangeKind::Fanout => show(tree.bindings(root), None),
            ExchangeKind::Direct => {
                show(tree.find(texts, root, &whole(key)), None);
            }
            ExchangeKind::Headers => {
                show(tree.bindings(root), Some(message_headers));
                for span in headers::spans(message_headers) {
                    let name = anchor_word(*seed, span);
                    let first = tree.find(texts, root, &Step::Word(&name, Form::Dots));
                    show(first, Some(message_headers));
                }
            }
            ExchangeKind::Topic => {
                if !topics::is_within_limit(key) {
                    return Err(Limit("words"));
                }
                tree.walk(texts, root, key, &mut |first| show(first, None));
            }
        }
        Ok(())
    }

    /// Slots, nodes and cells in use.
    pub fn used(&self) -> (usize, usize, usize) {
        (self.vacancies.used(), self.tree.used(), self.texts.used())
    }

    fn site(&self, exchange: ExchangeId) -> Option<&Site> {
        self.sites.get(usize::from(exchange.0))
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn first_link_to(&self, target: Target) -> Link {
        match target {
            Target::Queue(queue) => self.queues.get(usize::from(queue.0)).copied(),
            Target::Exchange(exchange) => self.site(exchange).map(|site| site.to),
        }
        .unwrap_or_default()
    }

    /// The first binding from this slot on that is no shadow.
    fn primary(&self, from: Link, next: impl Fn(&BindingSlot) -> Link) -> Option<BindingId> {
        let mut link = from;
        loop {
            let slot = self.slots.get(link.index())?;
            if slot.flags & SHADOW == 0 {
                return Some(BindingId(link.index() as u32));
            }
            link = next(slot);
        }
    }

    fn admit(&mut self, bond: &Bond<'_>) -> Result<(), BindError> {
        if self.site(bond.source.id).is_none() {
            return Err(BindError::Limit("exchanges"));
        }
        if self.target_place(bond.target).is_none() {
            return Err(BindError::Limit(match bond.target {
                Target::Queue(_) => "queues",
                Target::Exchange(_) => "exchanges",
            }));
        }
        if u16::try_from(bond.pattern.text.len()).is_err() {
            return Err(BindError::Limit("key size"));
        }
        if bond.source.kind == ExchangeKind::Topic && !topics::is_within_limit(bond.pattern) {
            return Err(BindError::Limit("words"));
        }
        headers::check_arguments(bond.arguments).map_err(|_| BindError::Malformed)
    }

    /// Writes the path to a node in front of `start`.
    fn spell_path(&self, node: Link, form: Form, into: &mut [u8], start: &mut usize) -> Option<()> {
        let mut link = node;
        let mut is_tail = true;
        loop {
            let (part, parent) = self.tree.part(&self.texts, link)?;
            if matches!(part, Part::Root) {
                return Some(());
            }
            if !core::mem::take(&mut is_tail) {
                prepend(into, start, core::iter::once(b'.'), 1, form)?;
            }
            match part {
                Part::Word(word) => {
                    let size = word.clone().count();
                    prepend(into, start, word, size, form)?;
                }
                Part::One if form == Form::Slashes => prepend(into, start, core::iter::once(b'+'), 1, form)?,
                Part::One => prepend(into, start, core::iter::once(b'*'), 1, form)?,
                _ => prepend(into, start, core::iter::once(b'#'), 1, form)?,
            }
            link = parent;
        }
    }
}

/// Shows the bindings of a node, verified against headers if there are any to verify with.
fn show(
    slots: &[BindingSlot],
    texts: &TextPool<'_>,
    is_hidden: bool,
    first: Link,
    headers: Option<&[u8]>,
    sink: &mut impl FnMut(Target, Grade),
) {
    let mut link = first;
    while let Some(slot) = slots.get(link.index()) {
        let is_left_out = is_hidden && slot.flags & SHY != 0;
        let does_match =
            headers.is_none_or(|headers| headers::matches(kept_arguments(texts.bytes(slot.kept)), headers));
        if let Some(grade) = slot.grade().filter(|_| does_match && !is_left_out) {
            sink(slot.target(), grade);
        }
        link = if slot.flags & LAST != 0 { Link::NONE } else { slot.next };
    }
}

/// Writes bytes in the AMQP spelling in front of `start`, spelled in this form.
fn prepend(
    into: &mut [u8],
    start: &mut usize,
    bytes: impl Iterator<Item = u8>,
    size: usize,
    form: Form,
) -> Option<()> {
    let first = start.checked_sub(size)?;
    for (to, from) in into.get_mut(first..*start)?.iter_mut().zip(bytes) {
        *to = form.canonical(from);
    }
    *start = first;
    Some(())
}
