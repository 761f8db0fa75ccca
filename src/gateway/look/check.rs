//! Everything that is to be told of a store: what is in it, and what is damaged.
//!
//! ```text
//! headers   of every segment: wear, times, what cannot be read
//! log       what a mount finds damaged: records that are known or whole ranges of bytes
//! bodies    every message of every queue and stream, and every retained value, is read
//! ```
//! Groups hold references to the messages of their streams and are counted, not read. What was never
//! confirmed before power went is no damage, whatever it looks like.

use crate::broker::{for_each_loss, DedupInfo, Loss, Mounted};
use crate::command::{QueueKind, Standee, Standing, Which};
use crate::flash::image::ImageFlash;
use crate::gateway::errors::Fatal;
use crate::log::{
    Damage, Extent, Log, LogOptions, LogStats, LogStorage, MountReport, ReadError, Restore, RestoreError,
    SegmentFacts, SegmentState,
};
use crate::units::{At, Millis, Offset, Position, QueueId};

use super::find::Found;
use super::gaps::Gaps;
use super::progress::{Progress, Unit};
use super::{ImageBroker, Opened};

/// A queue, stream or group, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its id in the store.
    pub id: QueueId,
    /// Its name.
    pub name: String,
    /// Work queue, stream or group.
    pub kind: QueueKind,
    /// Messages that can be handed out.
    pub ready: u64,
    /// Messages that wait for their time.
    pub delayed: u64,
    /// Messages whose receiver has them, only the release being outstanding.
    pub received: u64,
    /// Messages that are damaged.
    pub damaged: u64,
    /// Bytes of its records.
    pub bytes: u64,
    /// The next offset.
    pub next: u64,
    /// What was taken off all its offsets: those of a stream begin with 0.
    pub base: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The image is shorter than the store.
    Truncated {
        /// Bytes that are missing.
        missing: u64,
    },
    /// The medium refuses to be read.
    Sectors(u64),
    /// A message cannot be read.
    Message {
        /// Name of its queue.
        queue: String,
        /// Its offset there.
        offset: u64,
        /// Why.
        why: ReadError,
    },
    /// A retained value cannot be read.
    Retained(ReadError),
    /// A damaged record that a mount does not need, since the footer of its segment still has it.
    Record {
        /// What it says.
        loss: Loss,
        /// Name of the queue it concerns.
        queue: Option<String>,
        /// Where it was.
        at: At,
    },
    /// Records with one wrong bit, which is mended whenever they are read.
    Mended(u64),
    /// Damaged records of messages that are in no queue any more.
    Stale(u64),
    /// Bytes of which nothing is known but that something was there.
    Bytes {
        /// The first, in the store.
        at: At,
        /// How many.
        size: u32,
        /// Their segment.
        sequence: u32,
        /// They are all of the segment.
        is_segment: bool,
        /// When they were written: not before, and not after.
        written: (Option<Millis>, Option<Millis>),
        /// Queues, and the first and last of their offsets that are missing there.
        missing: Vec<(String, u64, u64)>,
    },
}

/// What was found.
pub struct Report {
    /// Where the store is.
    pub found: Found,
    /// What the mount found.
    pub mounted: Mounted,
    /// Figures of the log.
    pub log: LogStats,
    /// The log is durable up to here.
    pub durable: Position,
    /// Log time.
    pub now: Millis,
    /// Least and most erases that headers tell.
    pub erases: Option<(u32, u32)>,
    /// Segments whose header cannot be read.
    pub unreadable: u32,
    /// The queues.
    pub queues: Vec<Queue>,
    /// Exchanges besides those that are always there.
    pub exchanges: u32,
    /// Bindings.
    pub bindings: u32,
    /// Retained values.
    pub retained: u32,
    /// Identities of publishes.
    pub dedup: DedupInfo,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Checks a store.
pub fn check(opened: &Opened, progress: &Progress) -> Result<Report, Fatal> {
    let (facts, unreadable) = opened.segments();
    progress.begin("reading the log", Unit::Bytes, 0);
    let damages = Damages::of(opened)?;
    let mut report = opened.mount(|broker, mounted| {
        progress.end();
        let count = mounted.messages + u64::from(broker.info().retained);
        progress.begin("checking messages", Unit::Messages, count);
        let report = survey(broker, mounted, opened.found, progress);
        progress.end();
        report
    })?;
    report.unreadable = unreadable;
    report.erases = facts.iter().flatten().map(|facts| (facts.erases, facts.erases)).reduce(wider);
    damages.tell(&facts, &mut report);
    let size = u64::from(opened.found.geometry.segment_size) * u64::from(opened.found.geometry.segment_count);
    let missing = opened.image.missing_of(opened.found.begin, size);
    if missing > 0 {
        report.findings.insert(0, Finding::Truncated { missing });
    }
    if opened.image.bad_sectors() > 0 {
        report.findings.insert(0, Finding::Sectors(opened.image.bad_sectors()));
    }
    Ok(report)
}

fn wider(one: (u32, u32), other: (u32, u32)) -> (u32, u32) {
    (one.0.min(other.0), one.1.max(other.1))
}

/// Reads everything the broker has.
fn survey(broker: &mut ImageBroker<'_>, mounted: &Mounted, found: Found, progress: &Progress) -> Report {
    let mut queues = Vec::new();
    broker.for_each_queue(&mut |queue| {
        queues.push(Queue {
            id: queue.id,
            name: queue.name.to_string(),
            kind: queue.kind,
            ready: 0,
            delayed: 0,
            received: 0,
            damaged: 0,
            bytes: queue.bytes,
            next: broker.offset_told(queue.id, queue.next).0,
            base: broker.base_of(queue.id).0,
        });
    });
    let info = broker.info();
    let mut findings = Vec::new();
    for queue in &mut queues {
        let mut from = Offset(0);
        while let Some((next, standee)) = broker.browse(queue.id, from, Which::Any) {
            from = next;
            let Some(standee) = standee else { continue };
            queue.count(&standee, info.now, &mut findings);
            progress.message();
        }
    }
    let mut cursor = 0;
    while let Some((next, content)) = broker.browse_retained(cursor) {
        cursor = next;
        let Some(content) = content else { continue };
        findings.extend(content.err().map(Finding::Retained));
        progress.message();
    }
    let mut exchanges = 0;
    broker.for_each_exchange(&mut |exchange| exchanges += u32::from(!exchange.predeclared));
    // They are only counted, so what does not fit counts as well.
    let mut bindings = 0;
    let unfit = broker.for_each_binding(&mut [], &mut |_| bindings += 1);
    Report {
        found,
        mounted: *mounted,
        log: info.log,
        durable: broker.durable(),
        now: info.now,
        erases: None,
        unreadable: 0,
        queues,
        exchanges,
        bindings: bindings + unfit,
        retained: info.retained,
        dedup: broker.dedup_info(),
        findings,
    }
}

impl Queue {
    fn count(&mut self, standee: &Standee<'_>, now: Millis, findings: &mut Vec<Finding>) {
        match standee.standing {
            Standing::Delayed(until) if until > now => self.delayed += 1,
            _ if standee.received => self.received += 1,
            _ => self.ready += 1,
        }
        let Err(why) = standee.content else { return };
        if matches!(self.kind, QueueKind::Group { .. }) {
            return;
        }
        self.damaged += 1;
        let offset = standee.offset.0;
        findings.push(Finding::Message { queue: self.name.clone(), offset, why });
    }
}

impl Report {
    /// The queue that a loss concerns.
    fn queue_of(&self, loss: &Loss) -> Option<&Queue> {
        let id = match *loss {
            Loss::Message { queue, .. }
            | Loss::Done { queue, .. }
            | Loss::Received { queue, .. }
            | Loss::Exposed { queue }
            | Loss::Returned { queue, .. } => queue,
            Loss::Retained(_) | Loss::Declaration | Loss::Dedup | Loss::Time => return None,
        };
        self.queues.iter().find(|queue| queue.id == id)
    }

    /// The loss, with the offset that its queue's readers know.
    fn shown(&self, loss: Loss) -> Loss {
        let base = self.queue_of(&loss).map_or(0, |queue| queue.base);
        let less = |offset: Offset| Offset(offset.0.saturating_sub(base));
        match loss {
            Loss::Message { queue, offset } => Loss::Message { queue, offset: less(offset) },
            Loss::Done { queue, first, count } => Loss::Done { queue, first: less(first), count },
            Loss::Received { queue, offset } => Loss::Received { queue, offset: less(offset) },
            Loss::Returned { queue, offset } => Loss::Returned { queue, offset: less(offset) },
            other => other,
        }
    }

    /// Whether reading the message told of the loss.
    fn has_told(&self, loss: &Loss) -> bool {
        self.findings.iter().any(|finding| match (finding, loss) {
            (Finding::Retained(_), Loss::Retained(_)) => true,
            (Finding::Message { queue, offset, .. }, Loss::Message { offset: lost, .. }) => {
                let found = self.queue_of(loss).filter(|found| found.name == *queue);
                found.is_some_and(|found| *offset == lost.0.saturating_sub(found.base))
            }
            _ => false,
        })
    }
}

/// What a mount of the log alone finds damaged.
#[derive(Default)]
struct Damages {
    ranges: Vec<(At, Position, u32, Extent)>,
    losses: Vec<(At, Vec<Loss>)>,
    gaps: Gaps,
    mended: u64,
    log: MountReport,
}

impl Damages {
    fn of(opened: &Opened) -> Result<Damages, Fatal> {
        let geometry = opened.found.geometry;
        let mut segments = vec![SegmentState::default(); geometry.segment_count as usize];
        let buffer = || vec![0; geometry.segment_size.max(4096) as usize];
        let (mut tail, mut index, mut windows) = (buffer(), buffer(), buffer());
        let storage =
            LogStorage { segments: &mut segments, tail: &mut tail, index: &mut index, windows: &mut windows };
        let options = LogOptions { max_record: opened.max_record(), read_only: true };
        let mut damages = Damages::default();
        let (mut log, report) = Log::mount(opened.device(), storage, options, &mut damages)
            .map_err(|error| opened.unmounted(error))?;
        damages.log = report;
        damages.scrub(&mut log);
        Ok(damages)
    }

    /// Reads the records that the mount took from the footers.
    fn scrub(&mut self, log: &mut Log<'_, ImageFlash>) {
        let mut next = None;
        loop {
            let scrubbed = log.scrub(next, &mut |damage| {
                // Where there is no footer the mount has read them already.
                if damage.record.is_some() {
                    self.damage(damage);
                }
            });
            self.mended += u64::from(scrubbed.mended);
            next = scrubbed.next;
            if next.is_none() {
                return;
            }
        }
    }

    /// Puts what was found into the report, in the order of the log.
    fn tell(self, facts: &[Option<SegmentFacts>], report: &mut Report) {
        report.mounted.log = self.log;
        let mut stale = 0;
        for (at, losses) in self.losses {
            // Messages that are still wanted were read already.
            let is_message = |loss: &Loss| matches!(loss, Loss::Message { .. } | Loss::Retained(_));
            if losses.iter().any(is_message) {
                stale += u64::from(!losses.iter().any(|loss| report.has_told(loss)));
                continue;
            }
            for loss in losses {
                let queue = report.queue_of(&loss).map(|queue| queue.name.clone());
                let loss = report.shown(loss);
                report.findings.push(Finding::Record { loss, queue, at });
            }
        }
        if self.mended > 0 {
            report.findings.push(Finding::Mended(self.mended));
        }
        if stale > 0 {
            report.findings.push(Finding::Stale(stale));
        }
        let gaps = self.gaps.finish();
        for (number, (at, position, size, extent)) in self.ranges.into_iter().enumerate() {
            let sequence = position.sequence();
            let all = || facts.iter().flatten();
            let begun = all().filter(|facts| facts.sequence <= sequence).map(|facts| facts.base).max();
            let ended = all().filter(|facts| facts.sequence > sequence).map(|facts| facts.base).min();
            let is_segment = extent == Extent::Segment;
            let written = (begun, ended);
            let here = gaps.iter().filter(|gap| gap.damage == number);
            let named = here.filter_map(|gap| {
                let queue = report.queues.iter().find(|queue| queue.id == gap.queue)?;
                let shown = |offset: u64| offset.saturating_sub(queue.base);
                Some((queue.name.clone(), shown(gap.offsets.start), shown(gap.offsets.end.saturating_sub(1))))
            });
            let missing = named.collect();
            report.findings.push(Finding::Bytes { at, size, sequence, is_segment, written, missing });
        }
    }
}

impl Restore for Damages {
    fn record(&mut self, _: At, kind: u8, digest: &[u8], _: u32) -> Result<(), RestoreError> {
        for_each_loss(kind, digest, &mut |said| self.gaps.record(&said));
        Ok(())
    }

    fn damage(&mut self, damage: &Damage<'_>) {
        let Some((kind, digest)) = damage.record else {
            self.gaps.damage();
            self.ranges.push((damage.at, damage.position, damage.size, damage.extent));
            return;
        };
        let mut losses = Vec::new();
        for_each_loss(kind, digest, &mut |loss| losses.push(loss));
        self.losses.push((damage.at, losses));
    }
}
