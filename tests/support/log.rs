//! Memory for a log, devices that misbehave, and a toy broker that knows what must be there.

#![allow(dead_code)]

use std::collections::BTreeMap;

use forebay::flash::ram::RamFlash;
use forebay::flash::{Flash, FlashError, Geometry, SyncState};
use forebay::log::{
    AppendError, Damage, Log, LogOptions, LogStorage, MountError, MountReport, Purpose, Restore,
    RestoreError, SegmentState, DIGEST_MAX, RECORD_OVERHEAD, WINDOWS_MIN,
};
use forebay::units::{At, Millis, Position};

pub const SALT: u32 = 0x5eed_1234;
pub const MESSAGE: u8 = 1;
pub const ACK: u8 = 2;

/// Numbers that are the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// What a log works in.
pub struct Memory {
    pub segments: Vec<SegmentState>,
    pub tail: Vec<u8>,
    pub index: Vec<u8>,
    pub windows: Vec<u8>,
    pub max_record: u32,
}

impl Memory {
    pub fn new(geometry: Geometry, tail: usize, max_record: u32) -> Memory {
        let window = (max_record as usize + RECORD_OVERHEAD).max(WINDOWS_MIN);
        Memory {
            segments: vec![SegmentState::default(); geometry.segment_count as usize],
            tail: vec![0; tail],
            index: vec![0; (geometry.segment_size as usize / 3).max(2 * DIGEST_MAX + 100)],
            windows: vec![0; 2 * window],
            max_record,
        }
    }

    pub fn storage(&mut self) -> LogStorage<'_> {
        LogStorage {
            segments: &mut self.segments,
            tail: &mut self.tail,
            index: &mut self.index,
            windows: &mut self.windows,
        }
    }

    pub fn mount<F: Flash>(
        &mut self,
        flash: F,
        restore: &mut impl Restore,
    ) -> Result<(Log<'_, F>, MountReport), MountError> {
        let options = LogOptions { max_record: self.max_record, read_only: false };
        Log::mount(flash, self.storage(), options, restore)
    }
}

/// A device in memory, with the image to be kept.
#[derive(Clone)]
pub struct Image {
    pub memory: Vec<u8>,
    pub marks: Vec<u32>,
    pub geometry: Geometry,
}

impl Image {
    pub fn blank(geometry: Geometry) -> Image {
        let size = geometry.segment_size as usize * geometry.segment_count as usize;
        Image { memory: vec![0xff; size], marks: vec![0; geometry.segment_count as usize], geometry }
    }

    pub fn formatted(geometry: Geometry) -> Image {
        let mut image = Image::blank(geometry);
        Log::format(&mut image.flash(), SALT, Millis(1000), &mut [0; 512]).unwrap();
        image
    }

    pub fn flash(&mut self) -> RamFlash<'_> {
        RamFlash::new(&mut self.memory, &mut self.marks, self.geometry).unwrap()
    }
}

/// Everything a mount tells.
#[derive(Default, Debug, PartialEq, Eq, Clone)]
pub struct Told {
    pub records: Vec<(At, u8, Vec<u8>, u32)>,
    pub damages: Vec<(At, u32)>,
}

impl Restore for Told {
    fn record(&mut self, at: At, kind: u8, digest: &[u8], size: u32) -> Result<(), RestoreError> {
        self.records.push((at, kind, digest.to_vec(), size));
        Ok(())
    }

    fn damage(&mut self, damage: &Damage<'_>) {
        self.damages.push((damage.at, damage.size));
    }
}

pub fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

pub fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, &byte| sum << 7 | u64::from(byte & 0x7f))
}

/// The payload of the message with this number.
pub fn payload(id: u64, max: u64) -> Vec<u8> {
    let mut random = Random(id);
    let len = random.below(max);
    (0..len).map(|_| random.next() as u8).collect()
}

/// A broker of the simplest kind: messages that are live until acknowledged, each held once.
#[derive(Default, Debug, Clone, PartialEq, Eq)]
pub struct Toy {
    pub live: BTreeMap<u64, At>,
    pub next: u64,
    pub max_payload: u64,
    pub lost: u32,
}

impl Restore for Toy {
    fn record(&mut self, at: At, kind: u8, digest: &[u8], _: u32) -> Result<(), RestoreError> {
        let id = number(digest);
        match kind {
            MESSAGE => {
                self.live.insert(id, at);
                self.next = self.next.max(id + 1);
            }
            ACK => {
                self.live.remove(&id);
            }
            _ => return Err(RestoreError::Malformed),
        }
        Ok(())
    }

    fn damage(&mut self, _: &Damage<'_>) {
        self.lost += 1;
    }
}

impl Toy {
    pub fn new(max_payload: u64) -> Toy {
        Toy { max_payload, ..Toy::default() }
    }

    pub fn hold_all<F: Flash>(&self, log: &mut Log<'_, F>) {
        for &at in self.live.values() {
            log.hold(at);
        }
    }

    pub fn publish<F: Flash>(&mut self, log: &mut Log<'_, F>) -> Result<u64, AppendError> {
        let id = self.next;
        let payload = payload(id, self.max_payload);
        let mut appended = log.append(MESSAGE, &varint(id), &[&payload], Purpose::Publish);
        for _ in 0..10 {
            if appended == Err(AppendError::Full) {
                self.reclaim(log)?;
                let _ = log.commit().and_then(|()| log.poll());
                appended = log.append(MESSAGE, &varint(id), &[&payload], Purpose::Publish);
            }
        }
        let at = appended?;
        log.hold(at);
        self.live.insert(id, at);
        self.next += 1;
        self.reclaim(log)?;
        Ok(id)
    }

    pub fn ack<F: Flash>(&mut self, log: &mut Log<'_, F>, id: u64) -> Result<(), AppendError> {
        log.append(ACK, &varint(id), &[], Purpose::Keep)?;
        if let Some(at) = self.live.remove(&id) {
            log.release(at);
        }
        self.reclaim(log)
    }

    /// Pays what reclaim owes.
    pub fn reclaim<F: Flash>(&mut self, log: &mut Log<'_, F>) -> Result<(), AppendError> {
        while log.reclaim_due() {
            let Ok(Some(at)) = log.reclaim_next() else { break };
            self.verdict(log, at)?;
        }
        Ok(())
    }

    pub fn verdict<F: Flash>(&mut self, log: &mut Log<'_, F>, at: At) -> Result<(), AppendError> {
        let Some((&id, _)) = self.live.iter().find(|(_, &live)| live == at) else { return Ok(()) };
        let max = self.max_payload;
        match log.copy(at, MESSAGE, &varint(id), &[(&[], 0..usize::MAX)], Purpose::Reclaim) {
            Ok(copy) => {
                log.hold(copy);
                log.release(at);
                self.live.insert(id, copy);
                assert_eq!(log.read(copy).unwrap().payload, payload(id, max));
                Ok(())
            }
            Err(AppendError::Source(_)) => {
                log.release(at);
                self.live.remove(&id);
                self.lost += 1;
                Ok(())
            }
            Err(AppendError::Full) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads everything that is live.
    pub fn check<F: Flash>(&self, log: &mut Log<'_, F>, what: &str) {
        for (&id, &at) in &self.live {
            let record =
                log.read(at).unwrap_or_else(|error| panic!("{what}: message {id} at {at}: {error:?}"));
            assert_eq!((record.kind, number(record.digest)), (MESSAGE, id));
            assert_eq!(record.payload, payload(id, self.max_payload), "{what}: message {id}");
        }
    }
}

/// Commits and polls until everything is durable, on a device whose sync ends at once.
pub fn settle<F: Flash>(log: &mut Log<'_, F>) -> Position {
    while log.unsynced() || log.syncing() {
        log.commit().unwrap();
        log.poll().unwrap();
    }
    log.durable()
}

/// A device whose syncs end when the test says so, whose segments can be bad, and of whose reads some fail once.
pub struct Wayward<F> {
    pub inner: F,
    pub sync: SyncState,
    pub bad: Vec<u32>,
    /// Every so many reads one fails; 0 is never.
    pub disturbed_every: u64,
    /// Bytes of the region that cannot be read.
    pub dead: std::ops::Range<u64>,
    pub reads: u64,
}

impl<F> Wayward<F> {
    pub fn new(inner: F) -> Wayward<F> {
        Wayward { inner, sync: SyncState::Idle, bad: Vec::new(), disturbed_every: 0, dead: 0..0, reads: 0 }
    }
}

/// The test's hold on a device that a log owns.
pub type Shared<F> = std::rc::Rc<std::cell::RefCell<Wayward<F>>>;

pub struct Handle<F>(pub Shared<F>);

impl<F: Flash> Flash for Handle<F> {
    fn geometry(&self) -> Geometry {
        self.0.borrow().inner.geometry()
    }

    fn read(&mut self, segment: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let mut device = self.0.borrow_mut();
        device.reads += 1;
        let place = u64::from(segment) * u64::from(device.inner.geometry().segment_size) + u64::from(offset);
        let is_dead = place < device.dead.end && device.dead.start < place + into.len() as u64;
        if is_dead || device.reads.checked_rem(device.disturbed_every) == Some(0) {
            return Err(FlashError::Medium);
        }
        device.inner.read(segment, offset, into)
    }

    fn program(&mut self, segment: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.0.borrow_mut().inner.program(segment, offset, bytes)
    }

    fn erase(&mut self, segment: u32) -> Result<(), FlashError> {
        if self.0.borrow().bad.contains(&segment) {
            return Err(FlashError::Medium);
        }
        self.0.borrow_mut().inner.erase(segment)
    }

    fn start_sync(&mut self) -> Result<(), FlashError> {
        self.0.borrow_mut().sync = SyncState::Pending;
        Ok(())
    }

    fn poll_sync(&mut self) -> SyncState {
        let state = self.0.borrow().sync;
        if matches!(state, SyncState::Done | SyncState::Failed) {
            self.0.borrow_mut().sync = SyncState::Idle;
        }
        state
    }
}
