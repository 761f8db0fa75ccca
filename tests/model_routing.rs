//! The routing nouns against models of them: match tree, exchanges, dedup index, text pool.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem::size_of;

use forebay::command::{DedupKey, ExchangeKind, ExchangeOptions, Grade};
use forebay::model::binding::*;
use forebay::model::dedup::{Dedup, DedupStorage, HeldSlot, Seen, WindowSlot};
use forebay::model::exchange::*;
use forebay::model::headers::{self, Value, Writer};
use forebay::model::key::{Form, Key};
use forebay::model::link::{Limit, Link};
use forebay::model::retained::RetainedSlot;
use forebay::model::router::{Keys, Router};
use forebay::model::text::{Cell, TextPool};
use forebay::model::topics;
use forebay::model::tree::Node;
use forebay::units::{At, BindingId, ExchangeId, Millis, QueueId};

/// Numbers that look random and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.roll(from.len())]
    }
}

struct Memory {
    nodes: Vec<Node>,
    bindings: Vec<BindingSlot>,
    cells: Vec<Cell>,
    exchanges: Vec<Site>,
    queues: Vec<Link>,
}

impl Memory {
    fn new(nodes: usize, bindings: usize, cells: usize) -> Memory {
        Memory {
            nodes: vec![Node::default(); nodes],
            bindings: vec![BindingSlot::default(); bindings],
            cells: vec![Cell::default(); cells],
            exchanges: vec![Site::default(); 16],
            queues: vec![Link::default(); 16],
        }
    }

    fn bindings(&mut self, seed: u64) -> Bindings<'_> {
        let storage = BindingStorage {
            nodes: &mut self.nodes,
            bindings: &mut self.bindings,
            cells: &mut self.cells,
            exchanges: &mut self.exchanges,
            queues: &mut self.queues,
        };
        Bindings::new(storage, seed)
    }
}

const fn source(id: u16, kind: ExchangeKind) -> Source {
    Source { id: ExchangeId(id), kind }
}

const TOPIC: Source = source(3, ExchangeKind::Topic);
const DIRECT: Source = source(1, ExchangeKind::Direct);
const FANOUT: Source = source(2, ExchangeKind::Fanout);
const HEADERS: Source = source(4, ExchangeKind::Headers);

const fn queue(id: u16) -> Target {
    Target::Queue(QueueId(id))
}

fn bond<'k>(source: Source, target: Target, pattern: Key<'k>, arguments: &'k [u8]) -> Bond<'k> {
    Bond { source, target, pattern, arguments }
}

fn routed(bindings: &mut Bindings<'_>, source: Source, key: Key<'_>, headers: &[u8]) -> Vec<(Target, Grade)> {
    let mut found = Vec::new();
    bindings.route(source, key, headers, &mut |target, grade| found.push((target, grade))).unwrap();
    found.sort();
    found
}

fn block(pairs: &[(&str, Value<'_>)]) -> Vec<u8> {
    let mut buffer = [0; 512];
    let mut writer = Writer::new(&mut buffer);
    for &(name, value) in pairs {
        writer.push(name, value).unwrap();
    }
    writer.finish().to_vec()
}

/// A pattern as a model has it: no hashing, no sharing, recursion.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(Vec<u8>),
    One,
    Rest,
}

fn tokens(text: &[u8], form: Form, is_pattern: bool) -> Vec<Token> {
    if text.is_empty() {
        return Vec::new();
    }
    let (separator, other, one) = match form {
        Form::Dots => (b'.', b'.', b'*'),
        Form::Slashes => (b'/', b'.', b'+'),
    };
    let token = |word: &[u8]| match word {
        b"#" if is_pattern => Token::Rest,
        [byte] if is_pattern && *byte == one => Token::One,
        _ if form == Form::Dots => Token::Word(word.to_vec()),
        _ => Token::Word(word.iter().map(|&byte| if byte == other { b'/' } else { byte }).collect()),
    };
    text.split(|&byte| byte == separator).map(token).collect()
}

fn token_match(pattern: &[Token], key: &[Token]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        ([Token::Rest, after @ ..], _) => (0..=key.len()).any(|skip| token_match(after, &key[skip..])),
        ([Token::One, after @ ..], [_, rest @ ..]) => token_match(after, rest),
        ([Token::Word(a), after @ ..], [Token::Word(b), rest @ ..]) => a == b && token_match(after, rest),
        _ => false,
    }
}

fn is_shy(pattern: &[Token], form: Form) -> bool {
    form == Form::Slashes && matches!(pattern.first(), Some(Token::One | Token::Rest))
}

fn random_text(dice: &mut Dice, form: Form, words_max: usize, alphabet: &[&str]) -> Vec<u8> {
    let count = dice.roll(words_max + 1);
    let words: Vec<&str> = (0..count).map(|_| *dice.pick(alphabet)).collect();
    words.join(if form == Form::Dots { "." } else { "/" }).into_bytes()
}

/// Words of keys for a form; one of them holds the separator of the other form.
fn alphabet(form: Form) -> &'static [&'static str] {
    match form {
        Form::Dots => &["a", "b", "", "$s", "*", "+", "x/y", "#"],
        Form::Slashes => &["a", "b", "", "$s", "*", "+", "x.y", "#"],
    }
}

fn random_form(dice: &mut Dice) -> Form {
    *dice.pick(&[Form::Dots, Form::Slashes])
}

#[test]
fn routing_finds_what_comparing_every_pattern_finds() {
    let mut hits = 0;
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut memory = Memory::new(1000, 200, 1000);
        let mut bindings = memory.bindings(seed);
        let mut model: Vec<Entry> = Vec::new();
        for _ in 0..60 {
            let form = random_form(&mut dice);
            let words: &[&str] = if dice.roll(2) == 0 { alphabet(form) } else { &["#", "*", "+", "a"] };
            let entry = Entry {
                source: TOPIC,
                target: queue(dice.roll(4) as u16),
                text: random_text(&mut dice, form, 5, words),
                form,
                arguments: Vec::new(),
                grade: *dice.pick(&[Grade::AtMostOnce, Grade::ExactlyOnce]),
            };
            let bound = bindings.bind(&entry.bond(), entry.grade).unwrap();
            match model.iter_mut().find(|other| other.identity() == entry.identity()) {
                Some(known) => {
                    assert!(matches!(bound, Bound::Existed(_)));
                    known.grade = entry.grade;
                }
                None => {
                    assert!(matches!(bound, Bound::Made(_)));
                    model.push(entry);
                }
            }
        }
        for _ in 0..200 {
            let form = random_form(&mut dice);
            let text = random_text(&mut dice, form, 6, alphabet(form));
            let key = Key { text: &text, form };
            let words = tokens(&text, form, false);
            let mut expected = Vec::new();
            for entry in &model {
                let path = tokens(&entry.text, entry.form, true);
                let is_left_out = is_shy(&path, entry.form) && text.first() == Some(&b'$');
                let does_match = token_match(&path, &words) && !is_left_out;
                let pattern = entry.bond().pattern;
                assert_eq!(topics::matches(pattern, key), does_match, "{pattern:?} {key:?}");
                if does_match {
                    expected.push((entry.target, entry.grade));
                }
            }
            hits += expected.len();
            expected.sort();
            assert_eq!(routed(&mut bindings, TOPIC, key, &[]), expected, "seed {seed} {key:?}");
        }
    }
    assert!(hits > 100_000);
}

#[test]
fn every_short_pattern_meets_every_short_key() {
    fn texts(words: &[&str], length_max: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut level: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        for _ in 0..length_max {
            all.extend(level.iter().cloned());
            level = level.iter().flat_map(|a| words.iter().map(move |b| format!("{a}.{b}"))).collect();
        }
        all.sort();
        all.dedup();
        all
    }
    let patterns = texts(&["a", "b", "*", "#"], 4);
    let keys = texts(&["a", "b", ""], 5);
    let mut memory = Memory::new(1000, 1000, 1000);
    let mut bindings = memory.bindings(1);
    for (number, pattern) in patterns.iter().enumerate() {
        let form_of_id = queue((number % 16) as u16);
        bindings
            .bind(&bond(TOPIC, form_of_id, Key::dots(pattern.as_bytes()), &[]), Grade::AtMostOnce)
            .unwrap();
    }
    for key in &keys {
        let words = tokens(key.as_bytes(), Form::Dots, false);
        let mut expected = [0; 16];
        for (number, pattern) in patterns.iter().enumerate() {
            if token_match(&tokens(pattern.as_bytes(), Form::Dots, true), &words) {
                expected[number % 16] += 1;
            }
        }
        let mut found = [0; 16];
        for (target, _) in routed(&mut bindings, TOPIC, Key::dots(key.as_bytes()), &[]) {
            let Target::Queue(id) = target else { panic!("no exchange was bound") };
            found[usize::from(id.0)] += 1;
        }
        assert_eq!(found, expected, "{key:?}");
    }
}

/// An entry of the model of all bindings: everything that identifies it, and its grade.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    source: Source,
    target: Target,
    text: Vec<u8>,
    form: Form,
    arguments: Vec<u8>,
    grade: Grade,
}

impl Entry {
    fn bond(&self) -> Bond<'_> {
        bond(self.source, self.target, Key { text: &self.text, form: self.form }, &self.arguments)
    }

    fn identity(&self) -> (u16, Target, Vec<Token>, bool, Vec<u8>) {
        let is_topic = self.source.kind == ExchangeKind::Topic;
        let path = match is_topic {
            true => tokens(&self.text, self.form, true),
            false => vec![Token::Word(Key { text: &self.text, form: self.form }.canonical().collect())],
        };
        let shy = is_topic && is_shy(&path, self.form);
        (self.source.id.0, self.target, path, shy, self.arguments.clone())
    }

    fn does_match(&self, key: Key<'_>, message: &[u8]) -> bool {
        match self.source.kind {
            ExchangeKind::Fanout => true,
            ExchangeKind::Direct => Key { text: &self.text, form: self.form } == key,
            ExchangeKind::Topic => topics::matches(Key { text: &self.text, form: self.form }, key),
            ExchangeKind::Headers => headers::matches(self.arguments.iter().copied(), message),
        }
    }
}

fn random_block(dice: &mut Dice, is_binding: bool) -> Vec<u8> {
    let mut pairs = Vec::new();
    if is_binding && dice.roll(3) > 0 {
        pairs.push(("x-match", Value::Text(dice.pick::<&str>(&["all", "any", "all-with-x", "any-with-x"]))));
    }
    for _ in 0..dice.roll(4) {
        let value = *dice.pick(&[Value::Int(1), Value::Int(2), Value::Text("1"), Value::Nil]);
        pairs.push((*dice.pick(&["a", "b", "c", "x-d"]), value));
    }
    block(&pairs)
}

fn random_entry(dice: &mut Dice) -> Entry {
    let source = *dice.pick(&[TOPIC, TOPIC, DIRECT, FANOUT, HEADERS, source(5, ExchangeKind::Headers)]);
    let form = random_form(dice);
    let target = match dice.roll(4) {
        0 => Target::Exchange(ExchangeId(dice.roll(6) as u16)),
        _ => queue(dice.roll(6) as u16),
    };
    let is_headers = source.kind == ExchangeKind::Headers;
    let arguments = if is_headers || dice.roll(8) == 0 { random_block(dice, true) } else { Vec::new() };
    let words_max = if is_headers { 1 } else { 3 };
    let text = random_text(dice, form, words_max, alphabet(form));
    let grade = *dice.pick(&[Grade::AtMostOnce, Grade::AtLeastOnce, Grade::ExactlyOnce]);
    Entry { source, target, text, form, arguments, grade }
}

fn check_routes(bindings: &mut Bindings<'_>, model: &[Entry], dice: &mut Dice) {
    for source in [TOPIC, DIRECT, FANOUT, HEADERS] {
        let form = random_form(dice);
        let text = random_text(dice, form, 4, alphabet(form));
        let message = random_block(dice, false);
        let key = Key { text: &text, form };
        let matching = model.iter().filter(|entry| entry.source == source && entry.does_match(key, &message));
        let mut expected: Vec<_> = matching.map(|entry| (entry.target, entry.grade)).collect();
        let mut found = routed(bindings, source, key, &message);
        expected.sort();
        if source == HEADERS {
            // One that hangs on several of the message's headers is shown for each.
            expected.dedup();
            found.dedup();
        }
        assert_eq!(found, expected);
    }
}

fn check_listings(bindings: &Bindings<'_>, model: &[Entry]) {
    let count = |first: Option<BindingId>, next: &dyn Fn(BindingId) -> Option<BindingId>| {
        std::iter::successors(first, |&id| next(id)).count()
    };
    for number in 0..6 {
        for target in [queue(number), Target::Exchange(ExchangeId(number))] {
            let listed = count(bindings.first_to(target), &|id| bindings.next_to(id));
            assert_eq!(listed, model.iter().filter(|entry| entry.target == target).count());
        }
        let exchange = ExchangeId(number);
        let listed = count(bindings.first_from(exchange), &|id| bindings.next_from(id));
        assert_eq!(listed, model.iter().filter(|entry| entry.source.id == exchange).count());
    }
    for entry in model {
        let id = bindings.find(&entry.bond()).unwrap();
        let (mut pattern, mut arguments) = ([0; 64], [0; 512]);
        assert_eq!(bindings.pattern(id, &mut pattern).unwrap(), entry.bond().pattern);
        assert_eq!(bindings.arguments(id, &mut arguments).unwrap(), entry.arguments);
        let binding = bindings.get(id).unwrap();
        assert_eq!((binding.exchange, binding.target), (entry.source.id, entry.target));
    }
}

#[test]
fn churn_keeps_to_the_model_and_leaves_nothing_behind() {
    let mut refusals = 0;
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let mut memory = Memory::new(40 + dice.roll(80), 30 + dice.roll(60), 40 + dice.roll(100));
        let mut bindings = memory.bindings(seed);
        let mut model: Vec<Entry> = Vec::new();
        for round in 0..600 {
            let entry = random_entry(&mut dice);
            let known = model.iter().position(|other| other.identity() == entry.identity());
            match dice.roll(12) {
                0..=7 => {
                    let before = bindings.used();
                    match (bindings.bind(&entry.bond(), entry.grade), known) {
                        (Ok(Bound::Existed(_)), Some(index)) => model[index].grade = entry.grade,
                        (Ok(Bound::Made(_)), None) => model.push(entry),
                        (Err(BindError::Limit(_)), None) => {
                            refusals += 1;
                            assert_eq!(bindings.used(), before);
                        }
                        (result, known) => panic!("{result:?} {known:?}"),
                    }
                }
                8 | 9 if !model.is_empty() => {
                    let index = dice.roll(model.len());
                    let entry = model.swap_remove(index);
                    assert!(bindings.unbind(&entry.bond()).is_some());
                    assert_eq!(bindings.unbind(&entry.bond()), None);
                }
                10 if round % 3 == 0 => {
                    let mut shown = 0;
                    bindings.remove_destination(entry.target, &mut |all, id| {
                        assert_eq!(all.get(id).unwrap().target, entry.target);
                        shown += 1;
                    });
                    let before = model.len();
                    model.retain(|other| other.target != entry.target);
                    assert_eq!(shown, before - model.len());
                }
                11 if round % 5 == 0 => {
                    let exchange = entry.source.id;
                    let mut shown = 0;
                    bindings.remove_exchange(exchange, &mut |_, _| shown += 1);
                    let before = model.len();
                    model.retain(|other| {
                        other.source.id != exchange && other.target != Target::Exchange(exchange)
                    });
                    assert_eq!(shown, before - model.len());
                }
                _ => {}
            }
            check_routes(&mut bindings, &model, &mut dice);
            if round % 20 == 0 {
                check_listings(&bindings, &model);
            }
        }
        for entry in &model {
            assert!(bindings.unbind(&entry.bond()).is_some());
        }
        assert_eq!(bindings.used(), (0, 0, 0));
    }
    assert!(refusals > 100);
}

#[test]
fn a_limit_is_named_and_changes_nothing() {
    let any = block(&[("x-match", Value::Text("any")), ("a", Value::Int(1)), ("b", Value::Int(2))]);
    let deep = Key::slashes(b"one/two/three/four");
    for (nodes, slots, cells, target, arguments, name) in [
        (3, 9, 30, TOPIC, &[][..], "nodes"),
        (9, 0, 30, TOPIC, &[], "bindings"),
        (9, 9, 3, TOPIC, &[], "texts"),
        (9, 1, 30, HEADERS, &any, "bindings"),
        (2, 9, 30, HEADERS, &any, "nodes"),
        (9, 9, 3, HEADERS, &any, "texts"),
    ] {
        let mut memory = Memory::new(nodes, slots, cells);
        let mut bindings = memory.bindings(4);
        let asked = bond(target, queue(0), deep, arguments);
        assert_eq!(bindings.bind(&asked, Grade::AtMostOnce), Err(BindError::Limit(name)));
        assert_eq!(bindings.used(), (0, 0, 0), "{name}");
        assert_eq!(bindings.find(&asked), None);
        assert_eq!((bindings.first_to(queue(0)), bindings.first_from(target.id)), (None, None));
    }
}

#[test]
fn keys_and_patterns_have_a_limit_of_words() {
    let mut memory = Memory::new(300, 9, 300);
    let mut bindings = memory.bindings(4);
    let text = [b'/'; topics::WORDS_MAX];
    let (fits, too_long) = (Key::slashes(&text[1..]), Key::slashes(&text));
    bindings.bind(&bond(TOPIC, queue(1), fits, &[]), Grade::AtMostOnce).unwrap();
    assert_eq!(
        bindings.bind(&bond(TOPIC, queue(1), too_long, &[]), Grade::AtMostOnce),
        Err(BindError::Limit("words"))
    );
    assert_eq!(routed(&mut bindings, TOPIC, fits, &[]).len(), 1);
    assert_eq!(bindings.route(TOPIC, too_long, &[], &mut |_, _| {}), Err(Limit("words")));
    bindings.bind(&bond(DIRECT, queue(1), too_long, &[]), Grade::AtMostOnce).unwrap();
    assert_eq!(routed(&mut bindings, DIRECT, too_long, &[]).len(), 1);
}

#[test]
fn unknown_places_and_bad_arguments_are_refused() {
    let mut memory = Memory::new(9, 9, 9);
    let mut bindings = memory.bindings(4);
    let key = Key::dots(b"k");
    for (asked, error) in [
        (bond(source(16, ExchangeKind::Topic), queue(0), key, &[]), BindError::Limit("exchanges")),
        (bond(TOPIC, queue(16), key, &[]), BindError::Limit("queues")),
        (bond(TOPIC, Target::Exchange(ExchangeId(16)), key, &[]), BindError::Limit("exchanges")),
        (bond(HEADERS, queue(0), key, &[7]), BindError::Malformed),
    ] {
        assert_eq!(bindings.bind(&asked, Grade::AtMostOnce), Err(error));
    }
    assert_eq!(bindings.used(), (0, 0, 0));
}

#[test]
fn a_binding_keeps_its_place_in_the_log_when_it_is_bound_again() {
    let mut memory = Memory::new(9, 9, 9);
    let mut bindings = memory.bindings(4);
    let asked = bond(TOPIC, queue(0), Key::slashes(b"a/+"), &[]);
    let Ok(Bound::Made(id)) = bindings.bind(&asked, Grade::AtMostOnce) else { panic!("not made") };
    bindings.set_at(id, Some(At(77)));
    let again = bond(TOPIC, queue(0), Key::dots(b"a.*"), &[]);
    assert_eq!(bindings.bind(&again, Grade::ExactlyOnce), Ok(Bound::Existed(id)));
    let binding = bindings.get(id).unwrap();
    assert_eq!((binding.at, binding.grade), (Some(At(77)), Grade::ExactlyOnce));
    assert_eq!(bindings.remove(id), Some(binding));
    assert_eq!(bindings.get(id), None);
}

#[test]
fn fanout_bindings_of_two_keys_are_two() {
    let mut memory = Memory::new(9, 9, 9);
    let mut bindings = memory.bindings(4);
    let (one, two) = (Key::dots(b"one"), Key::dots(b"two"));
    bindings.bind(&bond(FANOUT, queue(0), one, &[]), Grade::AtMostOnce).unwrap();
    bindings.bind(&bond(FANOUT, queue(0), two, &[]), Grade::AtMostOnce).unwrap();
    assert!(bindings.unbind(&bond(FANOUT, queue(0), one, &[])).is_some());
    assert_eq!(routed(&mut bindings, FANOUT, one, &[]).len(), 1);
}

struct World {
    memory: Memory,
    slots: Vec<ExchangeSlot>,
    cells: Vec<Cell>,
}

impl World {
    fn new() -> World {
        World {
            memory: Memory::new(100, 100, 100),
            slots: vec![ExchangeSlot::default(); 12],
            cells: vec![Cell::default(); 40],
        }
    }

    fn open(&mut self) -> (Exchanges<'_>, Bindings<'_>) {
        (Exchanges::new(&mut self.slots, &mut self.cells, 5).unwrap(), self.memory.bindings(5))
    }
}

fn declaration<'n>(name: &'n str, kind: ExchangeKind, alternate: Option<&'n str>) -> Declaration<'n> {
    let options = ExchangeOptions { kind, durable: true, alternate, ..ExchangeOptions::default() };
    Declaration { name, options }
}

fn made(exchanges: &mut Exchanges<'_>, name: &str, kind: ExchangeKind, alternate: Option<&str>) -> Source {
    match exchanges.declare(&declaration(name, kind, alternate)) {
        Ok(Declared::Made(id)) => Source { id, kind },
        other => panic!("{other:?}"),
    }
}

fn queues_of(
    exchanges: &mut Exchanges<'_>,
    bindings: &mut Bindings<'_>,
    from: Source,
    key: &str,
) -> Vec<u16> {
    let mut found = Vec::new();
    let mut named = |key: Key<'_>| (key.text == b"seven").then_some(QueueId(7));
    Router { exchanges, bindings }
        .route(from.id, Keys::one(Key::dots(key.as_bytes())), &[], &mut named, &mut |queue, _| {
            found.push(queue.0)
        })
        .unwrap();
    found.sort();
    found
}

#[test]
fn circles_of_exchanges_end_and_visit_each_once() {
    let mut world = World::new();
    let (mut exchanges, mut bindings) = world.open();
    let ring: Vec<Source> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| made(&mut exchanges, name, ExchangeKind::Fanout, None))
        .collect();
    let mut bind = |from: Source, to: Target| {
        bindings.bind(&bond(from, to, Key::dots(b""), &[]), Grade::AtLeastOnce).unwrap();
    };
    for (index, &from) in ring.iter().enumerate() {
        bind(from, Target::Exchange(ring[(index + 1) % 4].id));
        bind(from, Target::Exchange(from.id));
        bind(from, Target::Exchange(ring[0].id));
        bind(from, queue(index as u16));
    }
    for &from in ring.iter().chain(&ring) {
        assert_eq!(queues_of(&mut exchanges, &mut bindings, from, "k"), [0, 1, 2, 3]);
    }
}

#[test]
fn what_matches_nothing_goes_to_the_alternate_exchange() {
    let mut world = World::new();
    let (mut exchanges, mut bindings) = world.open();
    let main = made(&mut exchanges, "main", ExchangeKind::Topic, Some("spare"));
    assert_eq!(exchanges.alternate(main.id), None);
    assert_eq!(queues_of(&mut exchanges, &mut bindings, main, "lost"), []);
    let spare = made(&mut exchanges, "spare", ExchangeKind::Direct, Some("main"));
    let unmatched = made(&mut exchanges, "unmatched", ExchangeKind::Topic, Some(""));
    bindings.bind(&bond(main, queue(1), Key::dots(b"found.#"), &[]), Grade::AtMostOnce).unwrap();
    bindings.bind(&bond(spare, queue(2), Key::dots(b"lost"), &[]), Grade::AtMostOnce).unwrap();
    let mut route = |key| queues_of(&mut exchanges, &mut bindings, main, key);
    assert_eq!(route("found.x"), [1]);
    assert_eq!(route("lost"), [2]);
    assert_eq!(route("nowhere"), []);
    assert_eq!(queues_of(&mut exchanges, &mut bindings, unmatched, "seven"), []);
    assert_eq!(exchanges.delete(spare.id), Ok(()));
    assert_eq!(exchanges.alternate(main.id), None);
}

#[test]
fn the_default_exchange_asks_for_the_queue_of_that_name() {
    let mut world = World::new();
    let (mut exchanges, mut bindings) = world.open();
    let default = exchanges.source(exchanges.find("").unwrap()).unwrap();
    assert_eq!(queues_of(&mut exchanges, &mut bindings, default, "seven"), [7]);
    assert_eq!(queues_of(&mut exchanges, &mut bindings, default, "eight"), []);
}

#[test]
fn an_unroutable_length_leaves_no_mark_behind() {
    let mut world = World::new();
    let (mut exchanges, mut bindings) = world.open();
    let first = made(&mut exchanges, "first", ExchangeKind::Fanout, None);
    let topic = exchanges.source(ExchangeId(3)).unwrap();
    let to_topic = bond(first, Target::Exchange(topic.id), Key::dots(b""), &[]);
    bindings.bind(&to_topic, Grade::AtMostOnce).unwrap();
    bindings.bind(&bond(topic, queue(1), Key::dots(b"#"), &[]), Grade::AtMostOnce).unwrap();
    let long = [b'.'; 200];
    let mut router = Router { exchanges: &mut exchanges, bindings: &mut bindings };
    let refused = router.route(first.id, Keys::one(Key::dots(&long)), &[], &mut |_| None, &mut |_, _| {});
    assert_eq!(refused, Err(Limit("words")));
    assert_eq!(queues_of(&mut exchanges, &mut bindings, first, "k"), [1]);
}

#[test]
fn predeclared_exchanges_are_there_and_stay() {
    let mut world = World::new();
    let (mut exchanges, _) = world.open();
    for (number, (name, kind)) in PREDECLARED.into_iter().enumerate() {
        let id = ExchangeId(number as u16);
        assert_eq!(exchanges.find(name), Some(id));
        assert_eq!(exchanges.name(id, &mut []), Some(name));
        assert_eq!(exchanges.declare(&declaration(name, kind, None)), Ok(Declared::Existed(id)));
        assert_eq!(exchanges.delete(id), Err(ExchangeError::Reserved));
    }
    let own = declaration("amq.own", ExchangeKind::Topic, None);
    assert_eq!(exchanges.declare(&own), Err(ExchangeError::Reserved));
    let other_kind = declaration("amq.topic", ExchangeKind::Direct, None);
    assert_eq!(exchanges.declare(&other_kind), Err(ExchangeError::Mismatch));
    let five = &mut [ExchangeSlot::default(); 5];
    assert_eq!(Exchanges::new(five, &mut [], 0).err(), Some(Limit("exchanges")));
}

#[test]
fn exchanges_are_declared_compared_deleted_and_restored() {
    let mut world = World::new();
    let (mut exchanges, _) = world.open();
    let asked = declaration("readings", ExchangeKind::Topic, Some("spare"));
    let id = made(&mut exchanges, "readings", ExchangeKind::Topic, Some("spare")).id;
    assert_eq!(exchanges.declare(&asked), Ok(Declared::Existed(id)));
    for options in [
        ExchangeOptions { kind: ExchangeKind::Direct, ..asked.options },
        ExchangeOptions { durable: false, ..asked.options },
        ExchangeOptions { auto_delete: true, ..asked.options },
        ExchangeOptions { internal: true, ..asked.options },
        ExchangeOptions { alternate: None, ..asked.options },
        ExchangeOptions { alternate: Some("spar"), ..asked.options },
    ] {
        let other = Declaration { options, ..asked };
        assert_eq!(exchanges.declare(&other), Err(ExchangeError::Mismatch));
    }
    exchanges.set_at(id, Some(At(9)));
    assert_eq!(exchanges.get(id).unwrap().at, Some(At(9)));
    assert_eq!(exchanges.name(id, &mut [0; 20]), Some("readings"));
    assert_eq!(exchanges.alternate_name(id, &mut [0; 20]), Some("spare"));
    exchanges.delete(id).unwrap();
    assert_eq!(exchanges.delete(id), Err(ExchangeError::Unknown));
    assert_eq!((exchanges.find("readings"), exchanges.cells_used()), (None, 0));
    assert_eq!(exchanges.restore(ExchangeId(9), &asked), Ok(()));
    assert_eq!(exchanges.restore(ExchangeId(9), &asked), Ok(()));
    assert_eq!(exchanges.restore(ExchangeId(8), &asked), Err(ExchangeError::Mismatch));
    assert_eq!(
        exchanges.restore(ExchangeId(12), &declaration("x", ExchangeKind::Topic, None)),
        Err(ExchangeError::Limit("exchanges"))
    );
    assert_eq!(exchanges.find("readings"), Some(ExchangeId(9)));
    assert_eq!(exchanges.iter().count(), 7);
}

#[test]
fn a_full_table_of_exchanges_says_so_and_reuses_what_is_freed() {
    let mut world = World::new();
    let (mut exchanges, _) = world.open();
    let names: Vec<String> = (0..6).map(|number| format!("exchange {number}")).collect();
    let ids: Vec<_> =
        names.iter().map(|name| made(&mut exchanges, name, ExchangeKind::Fanout, None).id).collect();
    let more = declaration("more", ExchangeKind::Fanout, None);
    assert_eq!(exchanges.declare(&more), Err(ExchangeError::Limit("exchanges")));
    exchanges.delete(ids[2]).unwrap();
    assert_eq!(exchanges.declare(&more), Ok(Declared::Made(ids[2])));
    exchanges.delete(ids[4]).unwrap();
    let long = "n".repeat(256);
    let too_long = declaration(&long, ExchangeKind::Fanout, None);
    assert_eq!(exchanges.declare(&too_long), Err(ExchangeError::Limit("name size")));
    let (used, large) = (exchanges.cells_used(), "n".repeat(200));
    let without_room = declaration(&large, ExchangeKind::Fanout, Some(&large));
    assert_eq!(exchanges.declare(&without_room), Err(ExchangeError::Limit("texts")));
    assert_eq!(exchanges.cells_used(), used);
    assert_eq!(exchanges.find("exchange 3"), Some(ids[3]));
}

/// The dedup index as a model: a queue of window keys with their expiry, and a map of held ones.
#[derive(Default)]
struct DedupModel {
    window: VecDeque<Option<(u64, u64)>>,
    held: HashMap<(u16, u16), ()>,
}

impl DedupModel {
    const WINDOW: usize = 20;

    /// Forgets a window key; tells whether it was there and not over.
    fn forget(&mut self, key: u64, now: u64) -> bool {
        let slot = self.window.iter_mut().find(|slot| slot.is_some_and(|(known, _)| known == key));
        slot.and_then(Option::take).is_some_and(|(_, expires)| expires > now)
    }

    fn insert(&mut self, key: u64, expires: u64, now: u64) -> Seen {
        if self.window.iter().flatten().any(|&(known, expires)| known == key && expires > now) {
            return Seen::Seen;
        }
        self.forget(key, now);
        if self.window.len() == DedupModel::WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(Some((key, expires)));
        Seen::Fresh
    }
}

#[test]
fn the_dedup_index_keeps_to_its_model() {
    const HELD: usize = 12;
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let mut window = [WindowSlot::default(); DedupModel::WINDOW];
        let mut held = [HeldSlot::default(); HELD];
        let mut queues = [Link::default(); 4];
        let storage =
            DedupStorage { window: &mut window, held: &mut held, queues: &mut queues, producers: &mut [] };
        let mut dedup = Dedup::new(storage, seed);
        let mut model = DedupModel::default();
        let mut now = 0;
        for _ in 0..3000 {
            let key = dice.roll(40) as u64;
            let (queue, packet) = (dice.roll(4) as u16, dice.roll(8) as u16);
            let held_key = DedupKey::Held { queue: QueueId(queue), packet };
            match dice.roll(10) {
                0..=3 => {
                    let expires = now + 1 + dice.roll(30) as u64;
                    let seen = model.insert(key, expires, now);
                    assert_eq!(dedup.insert(DedupKey::Window(key), Millis(expires)), Ok(seen));
                }
                4 | 5 => {
                    let expected = match (model.held.contains_key(&(queue, packet)), model.held.len()) {
                        (true, _) => Ok(Seen::Seen),
                        (false, HELD) => Err(Limit("dedup held")),
                        (false, _) => Ok(Seen::Fresh),
                    };
                    if expected.is_ok() {
                        model.held.insert((queue, packet), ());
                    }
                    assert_eq!(dedup.insert(held_key, Millis::NEVER), expected);
                }
                6 => {
                    let known = model.held.remove(&(queue, packet)).is_some();
                    assert_eq!(dedup.forget(held_key), known);
                }
                7 => {
                    let is_known = model.forget(key, now);
                    assert_eq!(dedup.forget(DedupKey::Window(key)), is_known);
                }
                8 => {
                    now += dice.roll(12) as u64;
                    dedup.expire(Millis(now));
                    while model.window.front().is_some_and(|slot| slot.is_none_or(|(_, at)| at <= now)) {
                        model.window.pop_front();
                    }
                    assert_eq!(dedup.window_span(), model.window.len());
                }
                _ if dice.roll(8) == 0 => {
                    let before = model.held.len();
                    model.held.retain(|&(other, _), ()| other != queue);
                    assert_eq!(dedup.forget_queue(QueueId(queue)), before - model.held.len());
                }
                _ => {}
            }
            assert_eq!(dedup.held_count(), model.held.len());
            check_walk(&dedup, &model, now);
        }
    }
}

fn check_walk(dedup: &Dedup<'_>, model: &DedupModel, now: u64) {
    let mut expected = BTreeMap::new();
    for (key, expires) in model.window.iter().flatten().filter(|(_, expires)| *expires > now) {
        assert!(dedup.contains(DedupKey::Window(*key)));
        // A record of an earlier use of the key, or of a later one that power undid, says nothing of it.
        assert!(dedup.is_needed(DedupKey::Window(*key), Millis(*expires)));
        assert!(!dedup.is_needed(DedupKey::Window(*key), Millis(*expires + 1)));
        expected.insert(format!("{:?}", DedupKey::Window(*key)), Millis(*expires));
    }
    for &(queue, packet) in model.held.keys() {
        let key = DedupKey::Held { queue: QueueId(queue), packet };
        assert!(dedup.contains(key));
        expected.insert(format!("{key:?}"), Millis::NEVER);
    }
    let mut cursor = 0;
    while let Some((after, met)) = dedup.next(cursor) {
        cursor = after;
        if let Some((key, expires)) = met {
            assert_eq!(expected.remove(&format!("{key:?}")), Some(expires));
        }
    }
    assert!(expected.is_empty());
}

#[test]
fn window_and_held_keys_are_never_taken_for_each_other() {
    let mut window = [WindowSlot::default(); 4];
    let mut held = [HeldSlot::default(); 4];
    let mut queues = [Link::default(); 8];
    let storage =
        DedupStorage { window: &mut window, held: &mut held, queues: &mut queues, producers: &mut [] };
    let mut dedup = Dedup::new(storage, 0);
    let (held_key, number) = (DedupKey::Held { queue: QueueId(3), packet: 5 }, 5 << 16 | 3);
    dedup.insert(held_key, Millis::NEVER).unwrap();
    assert!(!dedup.contains(DedupKey::Window(number)));
    for key in 0..100 {
        dedup.insert(DedupKey::Window(key), Millis::NEVER).unwrap();
    }
    dedup.expire(Millis(1 << 50));
    assert!(dedup.contains(held_key) && !dedup.contains(DedupKey::Window(number)));
    assert!(dedup.contains(DedupKey::Window(99)));
    let nowhere = DedupKey::Held { queue: QueueId(8), packet: 5 };
    assert_eq!(dedup.insert(nowhere, Millis::NEVER), Err(Limit("queues")));
}

#[test]
fn an_index_without_slots_refuses() {
    let mut dedup = Dedup::new(DedupStorage::default(), 0);
    assert_eq!(dedup.insert(DedupKey::Window(1), Millis::NEVER), Err(Limit("dedup window")));
    assert!(!dedup.contains(DedupKey::Window(1)) && !dedup.forget(DedupKey::Window(1)));
    assert_eq!(dedup.next(0), None);
}

#[test]
fn the_text_pool_keeps_to_its_model() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let mut cells = [Cell::default(); 64];
        let mut pool = TextPool::new(&mut cells);
        let mut model = Vec::new();
        for _ in 0..2000 {
            if dice.roll(2) == 0 {
                let text: Vec<u8> = (0..dice.roll(60)).map(|_| dice.roll(256) as u8).collect();
                let used = pool.used();
                match pool.store(Key::dots(&text)) {
                    Ok(id) => model.push((id, text)),
                    Err(limit) => assert_eq!((limit, pool.used()), (Limit("texts"), used)),
                }
            } else if !model.is_empty() {
                let (id, _) = model.swap_remove(dice.roll(model.len()));
                pool.free(id);
            }
            for (id, text) in &model {
                assert!(pool.bytes(*id).eq(text.iter().copied()));
                assert!(pool.equals(*id, text, Form::Dots));
                assert_eq!(pool.size(*id), text.len());
            }
        }
        for (id, _) in model {
            pool.free(id);
        }
        assert_eq!(pool.used(), 0);
    }
}

#[test]
fn slots_are_as_small_as_they_are_said_to_be() {
    let sizes = [
        ("Cell", size_of::<Cell>(), 16, 12),
        ("Node", size_of::<Node>(), 32, 16),
        ("BindingSlot", size_of::<BindingSlot>(), 32, 20),
        ("Site", size_of::<Site>(), 12, 6),
        ("ExchangeSlot", size_of::<ExchangeSlot>(), 28, 16),
        ("WindowSlot", size_of::<WindowSlot>(), 24, 18),
        ("HeldSlot", size_of::<HeldSlot>(), 20, 12),
        ("RetainedSlot", size_of::<RetainedSlot>(), 24, 18),
        ("Link", size_of::<Link>(), 4, 2),
    ];
    for (name, size, wide, narrow) in sizes {
        assert_eq!(size, if cfg!(feature = "gateway") { wide } else { narrow }, "{name}");
    }
}
