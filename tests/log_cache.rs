//! The log on a file whose system keeps pages in memory, also such as a failed sync has lost.

#[path = "support/log.rs"]
mod support;

use std::collections::BTreeSet;

use forebay::flash::{Flash, FlashError, Geometry, SyncState, WIPED};
use forebay::log::{Log, LogError, MountError};
use forebay::units::{Millis, Position};
use support::*;

const PAGE: usize = 256;
const GEOMETRY: Geometry = Geometry { segment_size: 2048, segment_count: 12, write_unit: 64 };

fn bytes_of(page: usize) -> std::ops::Range<usize> {
    page * PAGE..(page + 1) * PAGE
}

/// A file as a system has it: what its pages in memory hold, what the medium does, and which pages are still to be
/// written. A sync that fails leaves its pages as if they had been.
struct CachedFile {
    medium: Vec<u8>,
    pages: Vec<u8>,
    unwritten: BTreeSet<usize>,
    syncing: Option<Vec<(usize, Vec<u8>)>>,
    random: Random,
    /// Syncs that still succeed in this life.
    sound: u64,
    opened: u32,
}

impl CachedFile {
    fn new(seed: u64) -> CachedFile {
        let size = (GEOMETRY.segment_size * GEOMETRY.segment_count) as usize;
        CachedFile {
            medium: vec![0; size],
            pages: vec![0; size],
            unwritten: BTreeSet::new(),
            syncing: None,
            random: Random(seed),
            sound: 0,
            opened: 0,
        }
    }

    fn write(&mut self, place: usize, bytes: &[u8]) {
        self.pages[place..place + bytes.len()].copy_from_slice(bytes);
        self.unwritten.extend(place / PAGE..(place + bytes.len()).div_ceil(PAGE));
    }

    /// Every page that is to be written is, or only some are; either way none is any more.
    fn write_out(&mut self, all: bool) {
        for page in std::mem::take(&mut self.unwritten) {
            if all || self.random.below(2) == 0 {
                let bytes = bytes_of(page);
                self.medium[bytes.clone()].copy_from_slice(&self.pages[bytes]);
            }
        }
    }

    /// A process opens it, as [`forebay::flash::file::FileFlash`] does.
    fn open(&mut self) {
        self.syncing = None;
        self.write_out(true);
        (self.sound, self.opened) = (self.random.below(6), self.opened + 1);
    }

    /// Power goes and comes back.
    fn lose_power(&mut self) {
        self.syncing = None;
        self.write_out(false);
        self.pages.clone_from(&self.medium);
    }
}

impl Flash for CachedFile {
    fn geometry(&self) -> Geometry {
        GEOMETRY
    }

    fn read(&mut self, segment: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let place = (segment * GEOMETRY.segment_size + offset) as usize;
        into.copy_from_slice(&self.pages[place..place + into.len()]);
        Ok(())
    }

    fn program(&mut self, segment: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.write((segment * GEOMETRY.segment_size + offset) as usize, bytes);
        Ok(())
    }

    fn erase(&mut self, segment: u32) -> Result<(), FlashError> {
        let place = (segment * GEOMETRY.segment_size) as usize;
        self.write(place, &[0; WIPED as usize]);
        self.write(place + (GEOMETRY.segment_size - WIPED) as usize, &[0; WIPED as usize]);
        Ok(())
    }

    fn start_sync(&mut self) -> Result<(), FlashError> {
        let pages = std::mem::take(&mut self.unwritten).into_iter();
        self.syncing = Some(pages.map(|page| (page, self.pages[bytes_of(page)].to_vec())).collect());
        Ok(())
    }

    fn poll_sync(&mut self) -> SyncState {
        if self.syncing.is_some() && self.random.below(3) > 0 {
            return SyncState::Pending;
        }
        let Some(pages) = self.syncing.take() else { return SyncState::Idle };
        let fails = self.sound == 0;
        self.sound = self.sound.saturating_sub(1);
        for (page, bytes) in pages {
            if !fails || self.random.below(2) == 0 {
                self.medium[bytes_of(page)].copy_from_slice(&bytes);
            }
        }
        if fails {
            SyncState::Failed
        } else {
            SyncState::Done
        }
    }

    fn nonce(&self) -> u32 {
        self.opened
    }

    fn forget(&mut self) -> bool {
        for page in (0..self.pages.len() / PAGE).filter(|page| !self.unwritten.contains(page)) {
            let bytes = bytes_of(page);
            self.pages[bytes.clone()].copy_from_slice(&self.medium[bytes]);
        }
        true
    }
}

/// What was promised.
#[derive(Default)]
struct Ledger {
    published: Vec<(Position, u64)>,
    acknowledged: Vec<(Position, u64)>,
    confirmed: BTreeSet<u64>,
    /// Acknowledged, whether that is durable or not.
    ended: BTreeSet<u64>,
    /// Durably so.
    gone: BTreeSet<u64>,
    next: u64,
}

impl Ledger {
    fn settle(&mut self, durable: Position) {
        let published = self.published.iter().filter(|(at, _)| *at < durable);
        self.confirmed.extend(published.map(|(_, id)| id));
        let acknowledged = self.acknowledged.iter().filter(|(end, _)| *end <= durable);
        self.gone.extend(acknowledged.map(|(_, id)| id));
    }

    fn check(&mut self, toy: &Toy, what: &str) {
        for id in self.confirmed.difference(&self.ended) {
            assert!(toy.live.contains_key(id), "{what}: message {id} was confirmed and is lost");
        }
        for id in &self.gone {
            assert!(!toy.live.contains_key(id), "{what}: message {id} was acknowledged and is back");
        }
        self.published.clear();
        self.acknowledged.clear();
    }
}

/// Publishes and acknowledges until a sync fails or the process ends; true if one failed.
fn live(log: &mut Log<'_, &mut CachedFile>, toy: &mut Toy, ledger: &mut Ledger, random: &mut Random) -> bool {
    for _ in 0..random.below(60) {
        match random.below(8) {
            0 => {
                let polled = log.commit().and_then(|()| log.poll());
                ledger.settle(log.durable());
                if polled == Err(LogError::SyncFailed) {
                    return true;
                }
            }
            1..4 if toy.live.len() > 6 => {
                let id = *toy.live.keys().next().unwrap();
                if toy.ack(log, id).is_ok() {
                    ledger.ended.insert(id);
                    ledger.acknowledged.push((log.tail(), id));
                }
            }
            _ => {
                if let Ok(id) = toy.publish(log) {
                    ledger.published.push((log.position(toy.live[&id]), id));
                }
            }
        }
    }
    false
}

#[test]
fn what_a_failed_sync_left_in_memory_only_is_not_built_on() {
    let mut memory = Memory::new(GEOMETRY, GEOMETRY.segment_size as usize, 200);
    let (mut failed, mut confirmed) = (0, 0);
    for seed in 0..1000 {
        let mut file = CachedFile::new(seed);
        Log::format(&mut file, SALT, Millis(1000), &mut [0; 512]).unwrap();
        file.write_out(true);
        let mut ledger = Ledger::default();
        let mut random = Random(!seed);
        for life in 0..12 {
            file.open();
            let mut toy = Toy::new(180);
            let (mut log, _) = match memory.mount(&mut file, &mut toy) {
                // A sync of the mount itself failed.
                Err(MountError::Medium(FlashError::ReadOnly)) => continue,
                mounted => mounted.unwrap(),
            };
            ledger.check(&toy, &format!("seed {seed}, life {life}"));
            toy.hold_all(&mut log);
            toy.next = toy.next.max(ledger.next);
            toy.check(&mut log, &format!("seed {seed}, life {life}"));
            failed += u32::from(live(&mut log, &mut toy, &mut ledger, &mut random));
            ledger.next = toy.next;
            if random.below(2) == 0 {
                file.lose_power();
            }
        }
        confirmed += ledger.confirmed.len();
    }
    assert!(
        failed > 2000 && confirmed > 20_000,
        "{failed} syncs failed, {confirmed} messages were confirmed"
    );
}
