//! Which messages were in bytes that cannot be read, concluded from those before and behind.
//!
//! The messages of a queue stand in the log in the order of their offsets. If some are missing where
//! something is damaged, that is where they were:
//! ```text
//! line 15 | line 16 | damaged | line 18 | acknowledged: line 15 to 16     => line 17 is lost
//! ```
//! What was acknowledged later is no loss. What reclaim moved stands behind newer messages and is
//! passed over, so this names what is known to be missing and not all that may be. A message that
//! was not to be kept has an offset and no record; next to a damage it cannot be told from a lost one.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::broker::Loss;
use crate::units::QueueId;

/// What a queue has shown so far.
struct Seen {
    /// The offset that is to come.
    next: u64,
    /// Damages there were when the last was seen.
    damages: usize,
}

/// Offsets of a queue that are missing at a damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Number of the first damage they can have been in.
    pub damage: usize,
    /// Their queue.
    pub queue: QueueId,
    /// Which.
    pub offsets: Range<u64>,
}

/// Takes the log in its order.
#[derive(Default)]
pub struct Gaps {
    queues: BTreeMap<u16, Seen>,
    damages: usize,
    gaps: Vec<Gap>,
}

impl Gaps {
    /// Here something cannot be read.
    pub fn damage(&mut self) {
        self.damages += 1;
    }

    /// A record says this.
    pub fn record(&mut self, said: &Loss) {
        match *said {
            Loss::Message { queue, offset } => self.message(queue, offset.0),
            Loss::Done { queue, first, count } => {
                self.done(queue, &(first.0..first.0.saturating_add(count)));
            }
            _ => {}
        }
    }

    /// What is missing, in the order of the log.
    pub fn finish(self) -> Vec<Gap> {
        self.gaps
    }

    fn message(&mut self, queue: QueueId, offset: u64) {
        let damages = self.damages;
        let first = Seen { next: offset, damages };
        let seen = self.queues.entry(queue.0).or_insert(first);
        if offset < seen.next {
            return;
        }
        if offset > seen.next && seen.damages < damages {
            self.gaps.push(Gap { damage: seen.damages, queue, offsets: seen.next..offset });
        }
        *seen = Seen { next: offset.saturating_add(1), damages };
    }

    /// Takes out what was acknowledged, which may leave two pieces.
    fn done(&mut self, queue: QueueId, offsets: &Range<u64>) {
        let mut behind = Vec::new();
        for gap in self.gaps.iter_mut().filter(|gap| gap.queue == queue) {
            let rest = offsets.end.max(gap.offsets.start)..gap.offsets.end;
            let before = gap.offsets.start..offsets.start.min(gap.offsets.end);
            if !rest.is_empty() && !before.is_empty() {
                behind.push(Gap { offsets: rest, ..gap.clone() });
                gap.offsets = before;
            } else if !rest.is_empty() {
                gap.offsets = rest;
            } else {
                gap.offsets = before;
            }
        }
        self.gaps.append(&mut behind);
        self.gaps.retain(|gap| !gap.offsets.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Offset;

    const LINE: QueueId = QueueId(3);

    fn message(offset: u64) -> Loss {
        Loss::Message { queue: LINE, offset: Offset(offset) }
    }

    #[test]
    fn what_is_missing_at_a_damage_was_there_unless_it_was_acknowledged() {
        let mut gaps = Gaps::default();
        [5, 6, 9].iter().for_each(|&offset| gaps.record(&message(offset)));
        gaps.damage();
        gaps.damage();
        gaps.record(&message(7));
        gaps.record(&Loss::Message { queue: QueueId(4), offset: Offset(80) });
        gaps.record(&message(20));
        gaps.damage();
        gaps.record(&message(21));
        gaps.record(&Loss::Done { queue: LINE, first: Offset(12), count: 3 });
        gaps.record(&Loss::Done { queue: LINE, first: Offset(18), count: 30 });
        let gap = |offsets| Gap { damage: 0, queue: LINE, offsets };
        assert_eq!(gaps.finish(), [gap(10..12), gap(15..18)]);
    }

    #[test]
    fn everything_may_have_been_acknowledged() {
        let mut gaps = Gaps::default();
        gaps.record(&message(1));
        gaps.damage();
        gaps.record(&message(9));
        gaps.record(&Loss::Done { queue: LINE, first: Offset(0), count: 9 });
        assert_eq!(gaps.finish(), []);
    }
}
