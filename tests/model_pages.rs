//! The pages of entries against a model: plain maps that say the same slowly.

use forebay::command::Grade;
use forebay::model::entry::Entry;
use forebay::model::pages::{Page, PageStorage, Pages, Roots, Slot, NONE, PAGE_LEN};
use forebay::units::{At, Millis, Offset, QueueId};
use std::collections::BTreeMap;

const PAGES: usize = 24;
const QUEUES: u16 = 3;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

struct Memory {
    pages: Vec<Page>,
    entries: Vec<Entry>,
    heads: Vec<u32>,
    timers: Vec<u32>,
}

impl Memory {
    fn new() -> Memory {
        Memory {
            pages: vec![Page::EMPTY; PAGES],
            entries: vec![Entry::default(); PAGES * PAGE_LEN as usize],
            heads: vec![0; 16],
            timers: vec![0; PAGES],
        }
    }

    fn pages(&mut self) -> Pages<'_> {
        Pages::new(PageStorage {
            pages: &mut self.pages,
            entries: &mut self.entries,
            heads: &mut self.heads,
            timers: &mut self.timers,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    ready: bool,
    due: Millis,
    bytes: u32,
}

/// The key orders entries as a queue hands them out: higher lanes first.
type Key = (u16, u8, u64);

fn key(queue: u16, lane: u8, offset: u64) -> Key {
    (queue, 9 - lane, offset)
}

#[test]
fn pages_agree_with_plain_maps_over_random_operations() {
    for seed in 1..=12 {
        let mut memory = Memory::new();
        run(seed, memory.pages());
    }
}

fn run(seed: u64, mut pages: Pages<'_>) {
    let mut random = Random(seed * 0x9E37_79B9);
    let mut roots = [Roots::default(); QUEUES as usize];
    let mut model: BTreeMap<Key, Known> = BTreeMap::new();
    let mut now = 100;
    for _ in 0..4000 {
        let (queue, lane) = (random.below(u64::from(QUEUES)) as u16, random.below(3) as u8);
        let offset = random.below(160);
        let root = &mut roots[queue as usize];
        let found = pages.find(QueueId(queue), lane, Offset(offset));
        let known = model.get(&key(queue, lane, offset)).copied();
        assert_eq!(found.is_some(), known.is_some(), "seed {seed}");
        match (random.below(6), found) {
            (0..=2, None) => {
                let due = if random.below(3) == 0 { Millis(now + random.below(500)) } else { Millis::NEVER };
                let mut entry = Entry::new(At(offset), Grade::AtLeastOnce);
                entry.set_due(due);
                let bytes = random.below(900) as u32;
                if let Ok(slot) = pages.insert(root, QueueId(queue), lane, Offset(offset), entry, bytes) {
                    let ready = random.below(2) == 0;
                    pages.set_ready(root, slot, ready);
                    model.insert(key(queue, lane, offset), Known { ready, due, bytes });
                } else {
                    assert_eq!(pages.free_count(), 0);
                }
            }
            (0, Some(slot)) | (5, Some(slot)) => {
                pages.remove(root, slot, None);
                model.remove(&key(queue, lane, offset));
            }
            (1, Some(slot)) => {
                let ready = !pages.is_ready(slot);
                pages.set_ready(root, slot, ready);
                model.get_mut(&key(queue, lane, offset)).unwrap().ready = ready;
            }
            (2, Some(slot)) => {
                let due = Millis(now + random.below(300));
                pages.set_due(slot, due);
                model.get_mut(&key(queue, lane, offset)).unwrap().due = due;
            }
            (3, _) => {
                now += random.below(40);
                expire(&mut pages, &mut model, Millis(now));
            }
            _ => {}
        }
        check(&pages, &roots, &model, seed);
    }
}

fn expire(pages: &mut Pages<'_>, model: &mut BTreeMap<Key, Known>, now: Millis) {
    while let Some(slot) = pages.pop_due(now) {
        let (queue, offset) = pages.owner(slot).unwrap();
        let known =
            model.get_mut(&key(queue.0, pages.lane(slot), offset.0)).expect("only live entries are due");
        assert!(known.due <= now);
        known.due = Millis::NEVER;
    }
    assert!(model.values().all(|known| known.due > now), "everything due was told");
}

fn check(pages: &Pages<'_>, roots: &[Roots], model: &BTreeMap<Key, Known>, seed: u64) {
    for queue in 0..QUEUES {
        let first = pages.first_ready(&roots[queue as usize]).map(|slot| {
            let (id, offset) = pages.owner(slot).unwrap();
            key(id.0, pages.lane(slot), offset.0)
        });
        let expected = model.iter().find(|(key, known)| key.0 == queue && known.ready).map(|(key, _)| *key);
        assert_eq!(first, expected, "seed {seed}: first ready of queue {queue}");
        let live = count_live(pages, &roots[queue as usize]);
        assert_eq!(live, model.keys().filter(|key| key.0 == queue).count(), "seed {seed}");
    }
    let next = model.values().map(|known| known.due).min().unwrap_or(Millis::NEVER);
    assert!(pages.next_wake() <= next, "seed {seed}: a wake-up is never late");
}

fn count_live(pages: &Pages<'_>, roots: &Roots) -> usize {
    let mut count = 0;
    let mut from: Option<Slot> = None;
    while let Some(slot) = pages.next_live(roots, from) {
        count += 1;
        from = Some(slot);
    }
    count
}

#[test]
fn everything_removed_gives_every_page_and_byte_back() {
    let mut memory = Memory::new();
    let mut pages = memory.pages();
    let mut roots = Roots::default();
    let mut total = 0;
    for offset in 0..(PAGES as u64 * 32) {
        let entry = Entry::new(At(0), Grade::AtMostOnce);
        let slot = pages.insert(&mut roots, QueueId(7), 0, Offset(offset), entry, offset as u32).unwrap();
        pages.set_ready(&mut roots, slot, offset % 3 == 0);
        total += offset;
    }
    let full = pages.insert(&mut roots, QueueId(8), 0, Offset(0), Entry::default(), 0);
    assert!(full.is_err(), "the pool is one for all queues");
    let mut given = 0;
    while let Some(slot) = pages.any_live(&roots) {
        given += u64::from(pages.remove(&mut roots, slot, None));
    }
    assert_eq!((given, pages.free_count()), (total, PAGES as u32));
    assert!(pages.first_ready(&roots).is_none() && pages.find(QueueId(7), 0, Offset(5)).is_none());
    assert_ne!(NONE, 0);
}

#[test]
fn a_stuck_head_holds_one_page_and_not_the_rest() {
    let mut memory = Memory::new();
    let mut pages = memory.pages();
    let mut roots = Roots::default();
    let entry = || Entry::new(At(0), Grade::AtLeastOnce);
    pages.insert(&mut roots, QueueId(0), 0, Offset(0), entry(), 1).unwrap();
    for offset in 1..100_000 {
        let slot = pages.insert(&mut roots, QueueId(0), 0, Offset(offset), entry(), 1).unwrap();
        pages.remove(&mut roots, slot, None);
    }
    assert!(pages.free_count() >= PAGES as u32 - 2);
    assert!(pages.find(QueueId(0), 0, Offset(0)).is_some());
}

#[test]
fn pages_made_in_any_order_are_walked_by_number() {
    let mut memory = Memory::new();
    let mut pages = memory.pages();
    let mut random = Random(11);
    for _ in 0..200 {
        let mut roots = Roots::NONE;
        let mut slots = Vec::new();
        for _ in 0..12 {
            let offset = Offset(random.below(20) * u64::from(PAGE_LEN));
            if pages.find(QueueId(1), 0, offset).is_none() {
                let entry = Entry::new(At(1), Grade::AtLeastOnce);
                slots.push((offset, pages.insert(&mut roots, QueueId(1), 0, offset, entry, 1).unwrap()));
            }
        }
        while !slots.is_empty() {
            let mut offsets: Vec<Offset> = slots.iter().map(|&(offset, _)| offset).collect();
            offsets.sort_unstable();
            let mut walked = Vec::new();
            let mut from = None;
            while let Some(slot) = pages.next_live(&roots, from) {
                walked.push(pages.owner(slot).unwrap().1);
                from = Some(slot);
            }
            assert_eq!(walked, offsets);
            assert_eq!(pages.first_offset(&roots), Some(offsets[0]));
            let (_, slot) = slots.swap_remove(random.below(slots.len() as u64) as usize);
            pages.remove(&mut roots, slot, None);
        }
    }
}

#[test]
fn pages_of_any_lane_made_in_any_order_are_walked_by_offset() {
    for seed in 1..=20 {
        let mut memory = Memory::new();
        let mut pages = memory.pages();
        let mut random = Random(seed * 0x9E37_79B9);
        let mut roots = [Roots::NONE; QUEUES as usize];
        let mut model: BTreeMap<(u16, u64), Slot> = BTreeMap::new();
        for _ in 0..2_000 {
            let queue = random.below(u64::from(QUEUES)) as u16;
            // Few to a page, with gaps, and some that come after higher ones, as in a mount.
            let offset = random.below(9) * u64::from(PAGE_LEN) + random.below(2) * 7;
            let root = &mut roots[queue as usize];
            match model.get(&(queue, offset)).copied() {
                Some(slot) if random.below(3) > 0 => {
                    pages.remove(root, slot, None);
                    model.remove(&(queue, offset));
                }
                Some(_) => {}
                None => {
                    let (lane, entry) = (random.below(4) as u8, Entry::new(At(offset), Grade::AtLeastOnce));
                    if let Ok(slot) = pages.insert(root, QueueId(queue), lane, Offset(offset), entry, 1) {
                        model.insert((queue, offset), slot);
                    }
                }
            }
            for from in [offset, offset + 1, offset.saturating_sub(1), random.below(1_500)] {
                let expected = model.range((queue, from)..=(queue, u64::MAX)).next().map(|(_, slot)| *slot);
                let found = pages.next_from(&roots[queue as usize], QueueId(queue), 3, Offset(from));
                assert_eq!(found, expected, "seed {seed}, queue {queue} from {from}");
            }
        }
    }
}
