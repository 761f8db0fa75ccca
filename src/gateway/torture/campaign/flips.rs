//! Campaign 4: every single bit of a full store flips, then every byte is struck, under the real broker.
//!
//! | what is hit | what it may cost |
//! |---|---|
//! | a message, a retained value, an acknowledgement, a declaration | nothing: one wrong bit is mended |
//! | a footer, a header | nothing: the records are read instead, the header is mended |
//! | padding, a dead segment, what is erased | nothing |
//! | in a store that was not closed: what was appended last, and no record behind it says that it was durable | that, without a word: it cannot be told from a torn write |
//!
//! More wrong bits than one in a record, as where a byte is struck, cost that record, and if it was its length
//! in an open segment, what follows in its batch; if it was a declaration there, what was declared. The header of the newest
//! segment is not struck: without it nothing tells that there was such a segment. Whatever is lost must be reported, by queue and offset where the message stood in a queue, and
//! one bit may cost one message at most, in all the queues it was routed to. Messages that were acknowledged may
//! come back; nothing may be there that was never published, and nothing may read wrong.

use super::{spread, Bounds};
use crate::flash::fault::FaultFlash;
use crate::flash::{Flash, Geometry};
use crate::gateway::torture::random::Random;
use crate::gateway::torture::script::{format, Setting};
use crate::gateway::torture::shop::{Desk, Facts, Sight, QUEUES};
use crate::gateway::torture::stats::{Failure, Stats};

/// Name of the campaign.
pub const NAME: &str = "flips";
/// Number of cases: those of bits, then those of bytes.
pub const CASES: u64 = 32;
/// Bytes of a segment's header.
const HEADER: u64 = 60;
/// What a struck byte is changed by.
const STRUCK: u8 = 0b1010_0110;
/// Acts that fill a store.
const ACTS: u32 = 260;

/// The device of a case, and whether the store is closed.
pub fn case(number: u64) -> (Setting, bool) {
    let unit = [4, 1, 32, 64][number as usize / 2 % 4];
    let geometry = Geometry { segment_size: 2048, segment_count: 14, write_unit: unit };
    let cached = number / 8 % 2 == 1;
    (Setting { geometry, erased: 0xff, cached, tail: 2048, live: 0 }, number % 2 == 0)
}

/// Runs the campaign.
pub fn run(bounds: &Bounds, seed: u64) -> Result<Stats, Failure> {
    spread(bounds, CASES, |number| one(bounds, number, seed))
}

fn one(bounds: &Bounds, number: u64, seed: u64) -> Result<Stats, Failure> {
    let (setting, is_closed) = case(number);
    let failure = |bit: u64, what: String| {
        let setting = format!("{setting}, {}", if is_closed { "closed" } else { "not closed" });
        Failure { campaign: NAME, seed, case: number, cut: bit, second: None, setting, what }
    };
    let script = Random::part(seed, number).draw();
    let mut full = Full::make(&setting, is_closed, script).map_err(|what| failure(0, what))?;
    let bytes = full.image.len() as u64;
    let strikes = if number < CASES / 2 { bytes * 8 } else { bytes };
    let newest = full.newest_header();
    for strike in (0..strikes).filter(|&strike| bounds.has_cut(number, strike)) {
        let (byte, change) = match number < CASES / 2 {
            true => (strike / 8, 1 << (strike % 8)),
            false => (strike, STRUCK),
        };
        if number >= CASES / 2 && newest.contains(&byte) {
            continue;
        }
        let one = number < CASES / 2;
        full.strike(byte as usize, change, one).map_err(|what| failure(strike, what))?;
    }
    Ok(full.stats)
}

/// A store with all kinds of things in it.
struct Full {
    device: FaultFlash,
    desk: Desk,
    image: Vec<u8>,
    flipped: Vec<u8>,
    /// What it shows when nothing is wrong.
    whole: Sight,
    seen: Sight,
    /// The number of the message that may be taken for a torn one, and of the next.
    last: Option<u32>,
    next: u32,
    /// The newest segment.
    tail_sequence: u32,
    stats: Stats,
}

impl Full {
    fn make(setting: &Setting, is_closed: bool, seed: u64) -> Result<Full, String> {
        let mut device = setting.device(seed).ok_or("no such device")?;
        format(&mut device)?;
        let mut desk = Desk::new(setting.geometry);
        let mut random = Random::part(seed, 4);
        let mut whole = Sight::default();
        let refused = |refusal| format!("the broker refuses: {refusal:?}");
        let (next, tail_sequence) = {
            let (mut shop, _) = desk.mount(&mut device).map_err(|error| format!("{error:?}"))?;
            shop.furnish().map_err(refused)?;
            shop.consume().map_err(refused)?;
            let next = shop.work(0, ACTS, &mut random, &mut Facts::default(), |_| 0).map_err(refused)?;
            shop.go_on(next, 1).map_err(refused)?;
            shop.look(&mut whole);
            if is_closed {
                shop.close();
            }
            (next + 1, shop.broker.info().log.tail_sequence)
        };
        if whole.messages.len() < 12 || whole.values.is_empty() || whole.wrong > 0 {
            return Err(format!("the store is not full: {whole:?}"));
        }
        let image = device.image().to_vec();
        let mut device = setting.device(!seed).ok_or("no such device")?;
        device.load(&image);
        let (seen, stats) = (Sight::default(), Stats::default());
        let last = (!is_closed).then(|| next - 1);
        Ok(Full {
            device,
            desk,
            flipped: image.clone(),
            image,
            whole,
            seen,
            last,
            next,
            tail_sequence,
            stats,
        })
    }

    /// Where the header of the newest segment is.
    fn newest_header(&self) -> std::ops::Range<u64> {
        let Geometry { segment_size, segment_count, .. } = self.device.geometry();
        let start = u64::from(self.tail_sequence % segment_count) * u64::from(segment_size);
        start..start + HEADER
    }

    /// Changes a byte, mounts and looks.
    fn strike(&mut self, byte: usize, change: u8, one: bool) -> Result<(), String> {
        self.flipped.clone_from(&self.image);
        self.flipped[byte] ^= change;
        self.device.load(&self.flipped);
        self.stats.cuts += 1;
        self.stats.mounts += 1;
        let before = self.device.meter();
        let mounted = self.desk.mount(&mut self.device);
        let (mut shop, mounted) = mounted.map_err(|error| format!("cannot be mounted: {error:?}"))?;
        shop.look(&mut self.seen);
        let report = mounted.log;
        let meter = shop.broker.device().meter();
        self.stats.most_calls =
            self.stats.most_calls.max(meter.reads - before.reads + meter.programs - before.programs);
        self.judge(report.damages, report.mended, one)
    }

    fn judge(&mut self, damages: u32, mended: u32, one: bool) -> Result<(), String> {
        let Sight { queues, wrong, .. } = self.seen;
        let what = format!("{damages} damages told, {mended} mended");
        if wrong > 0 {
            return Err(format!("{wrong} messages are not what was published, {what}"));
        }
        let strays = self.seen.messages.iter().find(|(_, _, id)| *id >= self.next);
        if let Some((queue, _, id)) = strays {
            return Err(format!("message {id} in {} was never published, {what}", QUEUES[*queue]));
        }
        if queues != self.whole.queues && (one || damages == 0) {
            return Err(format!("queues {queues:?} are there of {:?}, {what}", self.whole.queues));
        }
        let mut lost = None;
        for &(queue, offset, id) in &self.whole.messages {
            if self.seen.has(queue, id) || Some(id) == self.last {
                continue;
            }
            let named = self.seen.unreadable.contains(&(queue, offset));
            if !named && damages == 0 {
                return Err(format!("message {id} of {} is gone without a word, {what}", QUEUES[queue]));
            }
            if one {
                return Err(format!("message {id} of {} is lost by one bit, {what}", QUEUES[queue]));
            }
            self.stats.reported += u64::from(lost.is_none());
            lost = Some(id);
        }
        self.stats.lost += u64::from(lost.is_some());
        self.stats.recoveries += u64::from(mended > 0);
        let missing = self.whole.values.iter().filter(|value| !self.seen.values.contains(value)).count();
        let reported = self.seen.values_unreadable as usize + damages as usize;
        let in_doubt = self.whole.values.iter().any(|(_, id)| Some(*id) == self.last);
        if missing > reported + usize::from(in_doubt) && (one || reported == 0) {
            return Err(format!("{missing} retained values are gone without a word, {what}"));
        }
        Ok(())
    }
}
