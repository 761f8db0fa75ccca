//! The match tree: one tree of words for the bindings of all exchanges.
//!
//! Every exchange with bindings has a root; a node is a word or a wildcard below its parent, and
//! carries the first of the bindings that end there. Children are found through one hash table
//! over all nodes by (parent, step), and the word itself is compared, so that a hash decides
//! nothing. A key is matched level by level with the set of nodes it can be at, as an automaton:
//! time goes with the words of the key and the nodes that fit them, never with what is bound
//! elsewhere, and no node is visited twice for one word.
//! ```text
//! root ─ plant ─ +     ─ temp      plant/+/temp
//!      │       └ line7 ─ #         plant/line7/#
//!      └ #                         #
//! ```
//! The set of a level is a list through the nodes. A node can be due in the next level while it
//! still waits in this one (`#` keeps its own node); it then gets only its mark, and joins the
//! next list when it is taken from this one, so one link a node is enough.
//!
//! Invariants: outside of a walk no node is marked; a node without bindings and children
//! does not exist, except while a path grows.
//!
//! Limits: `nodes`, and `texts` for the words.

use super::hash;
use super::key::Key;
use super::link::{bucket, chain_add, chain_find, chain_remove, chained, Limit, Link, Raw, Vacancies};
use super::text::{Bytes, TextId, TextPool};
use super::topics::{self, Step};
use crate::units::ExchangeId;

const KIND: u8 = 0b11;
const ROOT: u8 = 0;
const WORD: u8 = 1;
const ONE: u8 = 2;
const REST: u8 = 3;
const HAS_ONE: u8 = 1 << 2;
const HAS_REST: u8 = 1 << 3;
const EVEN: u8 = 1 << 4;
const ODD: u8 = 1 << 5;

/// A node of the tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Node {
    head: Link,
    /// The node after this one in its bucket; of a root, which is in none, its exchange.
    next: Link,
    parent: Link,
    /// The word of a word.
    word: TextId,
    /// First binding that ends here.
    bindings: Link,
    /// The node after this one in the set of a level.
    set: Link,
    /// Children that are words.
    words: Raw,
    flags: u8,
    /// Bits of the hash that the bucket does not show, to pass over most other nodes unread.
    tag: u8,
}
chained!(Node, next, head);

/// What a node stands for, to spell the path to it.
#[derive(Clone, Debug)]
pub(crate) enum Part<'t> {
    /// The root of an exchange.
    Root,
    /// A word, in the AMQP spelling.
    Word(Bytes<'t>),
    /// Any one word.
    One,
    /// Any number of words.
    Rest,
}

/// All nodes.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    nodes: &'a mut [Node],
    vacancies: Vacancies,
    seed: u64,
}

impl<'a> Tree<'a> {
    /// A tree without nodes over zeroed (default) slots.
    pub fn new(nodes: &'a mut [Node], seed: u64) -> Tree<'a> {
        Tree { nodes, vacancies: Vacancies::new(), seed }
    }

    /// Number of nodes in use.
    pub const fn used(&self) -> usize {
        self.vacancies.used()
    }

    /// First binding that ends at a node.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn bindings(&self, node: Link) -> Link {
        self.nodes.get(node.index()).map_or(Link::NONE, |node| node.bindings)
    }

    /// Changes the first binding that ends at a node.
    pub fn set_bindings(&mut self, node: Link, first: Link) {
        if let Some(node) = self.nodes.get_mut(node.index()) {
            node.bindings = first;
        }
    }

    /// A node and the way to its parent.
    pub fn part<'t>(&self, texts: &'t TextPool<'_>, node: Link) -> Option<(Part<'t>, Link)> {
        let node = self.nodes.get(node.index())?;
        let part = match node.flags & KIND {
            ROOT => Part::Root,
            WORD => Part::Word(texts.bytes(node.word)),
            ONE => Part::One,
            _ => Part::Rest,
        };
        Some((part, node.parent))
    }

    /// The exchange below whose root a node stands.
    pub fn exchange(&self, node: Link) -> Option<ExchangeId> {
        let mut node = self.nodes.get(node.index())?;
        while let Some(parent) = self.nodes.get(node.parent.index()) {
            node = parent;
        }
        Some(node.exchange())
    }

    /// Makes the root of an exchange.
    pub fn plant(&mut self, exchange: ExchangeId) -> Result<Link, Limit> {
        let link = self.vacancies.take(self.nodes);
        let node = self.nodes.get_mut(link.index()).ok_or(Limit("nodes"))?;
        *node = Node { head: node.head, next: Link::to(usize::from(exchange.0)), ..Node::default() };
        Ok(link)
    }

    /// The node at the end of a path.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn seek<'s>(
        &self,
        texts: &TextPool<'_>,
        root: Link,
        path: &mut dyn Iterator<Item = Step<'s>>,
    ) -> Option<Link> {
        let mut node = root;
        for step in path {
            node = self.child(texts, node, &step, step.hash(self.seed));
        }
        node.is_some().then_some(node)
    }

    /// The node at the end of a path, made where it was not; at a limit, the last node it came to.
    /// The caller hangs a binding on it or prunes it.
    pub fn grow<'s>(
        &mut self,
        texts: &mut TextPool<'_>,
        root: Link,
        path: &mut dyn Iterator<Item = Step<'s>>,
    ) -> Result<Link, (Limit, Link)> {
        let mut node = root;
        for step in path {
            let hash = step.hash(self.seed);
            let known = self.child(texts, node, &step, hash);
            node = match known.is_some() {
                true => known,
                false => self.add_child(texts, node, &step, hash).map_err(|limit| (limit, node))?,
            };
        }
        Ok(node)
    }

    /// Removes a node and those above it as long as they carry nothing; tells which exchange has
    /// lost its root by that.
    pub fn prune(&mut self, texts: &mut TextPool<'_>, node: Link) -> Option<ExchangeId> {
        let mut link = node;
        loop {
            let node = *self.nodes.get(link.index())?;
            let children = node.flags & (HAS_ONE | HAS_REST) != 0 || node.words != 0;
            if children || node.bindings.is_some() {
                return None;
            }
            if node.flags & KIND == ROOT {
                self.vacancies.give(self.nodes, link);
                return Some(node.exchange());
            }
            self.remove_child(texts, link, &node);
            link = node.parent;
        }
    }

    /// Calls `hit` with the first binding of every node that a key ends at, each once. The key is
    /// within the limit of words.
    pub fn walk(&mut self, texts: &TextPool<'_>, root: Link, key: Key<'_>, hit: &mut dyn FnMut(Link)) {
        let (mut mark, mut next_mark) = (EVEN, ODD);
        let mut set = Link::NONE;
        self.enter(texts, root, &mut set, mark);
        for word in topics::words(key) {
            let step = Step::Word(word, key.form);
            let hash = step.hash(self.seed);
            let mut next_set = Link::NONE;
            while let Some((link, node)) = self.leave(&mut set, mark, &mut next_set) {
                if node.flags & KIND == REST {
                    self.enter(texts, link, &mut next_set, next_mark);
                }
                if node.flags & HAS_ONE != 0 {
                    let child = self.child(texts, link, &Step::One, Step::One.hash(self.seed));
                    self.enter(texts, child, &mut next_set, next_mark);
                }
                if node.words != 0 {
                    let child = self.child(texts, link, &step, hash);
                    self.enter(texts, child, &mut next_set, next_mark);
                }
            }
            set = next_set;
            core::mem::swap(&mut mark, &mut next_mark);
        }
        let mut none = Link::NONE;
        while let Some((_, node)) = self.leave(&mut set, mark, &mut none) {
            if node.bindings.is_some() {
                hit(node.bindings);
            }
        }
    }

    /// The first binding below a root under one word.
    pub fn find(&self, texts: &TextPool<'_>, root: Link, step: &Step<'_>) -> Link {
        self.bindings(self.child(texts, root, step, step.hash(self.seed)))
    }

    /// Puts a node into the set that is marked so, and with it the `#` below it, which need not
    /// match any word.
    fn enter(&mut self, texts: &TextPool<'_>, link: Link, set: &mut Link, mark: u8) {
        let mut link = link;
        while let Some(node) = self.nodes.get_mut(link.index()) {
            if node.flags & mark != 0 {
                return;
            }
            let waits = node.flags & (EVEN | ODD) != 0;
            node.flags |= mark;
            if !waits {
                node.set = core::mem::replace(set, link);
            }
            if node.flags & HAS_REST == 0 {
                return;
            }
            link = self.child(texts, link, &Step::Rest, Step::Rest.hash(self.seed));
        }
    }

    /// Takes the first node from a set. If it is due in the next one, it joins that.
    fn leave(&mut self, set: &mut Link, mark: u8, next_set: &mut Link) -> Option<(Link, Node)> {
        let link = *set;
        let node = self.nodes.get_mut(link.index())?;
        node.flags &= !mark;
        *set = node.set;
        if node.flags & (EVEN | ODD) != 0 {
            node.set = core::mem::replace(next_set, link);
        }
        Some((link, *node))
    }

    fn child(&self, texts: &TextPool<'_>, parent: Link, step: &Step<'_>, hash: u64) -> Link {
        let (home, tag) = self.place(parent, hash);
        chain_find(self.nodes, home, |node| {
            node.tag == tag
                && node.parent == parent
                && match (node.flags & KIND, step) {
                    (WORD, Step::Word(word, form)) => texts.equals(node.word, word, *form),
                    (ONE, Step::One) | (REST, Step::Rest) => true,
                    _ => false,
                }
        })
    }

    /// Bucket and tag of a child.
    fn place(&self, parent: Link, step_hash: u64) -> (usize, u8) {
        let hash = hash::mix(self.seed, step_hash ^ parent.index() as u64);
        (bucket(hash, self.nodes.len()), hash as u8)
    }

    fn add_child(
        &mut self,
        texts: &mut TextPool<'_>,
        parent: Link,
        step: &Step<'_>,
        hash: u64,
    ) -> Result<Link, Limit> {
        let (kind, parent_flag, text) = match *step {
            Step::Word(text, form) => (WORD, 0, Key { text, form }),
            Step::One => (ONE, HAS_ONE, Key::default()),
            Step::Rest => (REST, HAS_REST, Key::default()),
        };
        let word = texts.store(text)?;
        let link = self.vacancies.take(self.nodes);
        let (home, tag) = self.place(parent, hash);
        let Some(node) = self.nodes.get_mut(link.index()) else {
            texts.free(word);
            return Err(Limit("nodes"));
        };
        *node = Node { head: node.head, parent, word, flags: kind, tag, ..Node::default() };
        chain_add(self.nodes, home, link);
        if let Some(parent) = self.nodes.get_mut(parent.index()) {
            parent.flags |= parent_flag;
            parent.words = parent.words.wrapping_add(Raw::from(kind == WORD));
        }
        Ok(link)
    }

    fn remove_child(&mut self, texts: &mut TextPool<'_>, link: Link, node: &Node) {
        let hash = match node.flags & KIND {
            WORD => hash::hash(self.seed, texts.bytes(node.word)),
            ONE => Step::One.hash(self.seed),
            _ => Step::Rest.hash(self.seed),
        };
        let (home, _) = self.place(node.parent, hash);
        chain_remove(self.nodes, home, link);
        texts.free(node.word);
        self.vacancies.give(self.nodes, link);
        if let Some(parent) = self.nodes.get_mut(node.parent.index()) {
            match node.flags & KIND {
                WORD => parent.words = parent.words.wrapping_sub(1),
                ONE => parent.flags &= !HAS_ONE,
                _ => parent.flags &= !HAS_REST,
            }
        }
    }
}

impl Node {
    /// A vacant node; fills tables.
    pub const EMPTY: Node = Node {
        head: Link::NONE,
        next: Link::NONE,
        parent: Link::NONE,
        word: TextId::NONE,
        bindings: Link::NONE,
        set: Link::NONE,
        words: 0,
        flags: 0,
        tag: 0,
    };

    /// The exchange of a root.
    fn exchange(&self) -> ExchangeId {
        ExchangeId(self.next.index() as u16)
    }
}
