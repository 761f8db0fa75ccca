//! What is given up when the flash is full: a segment of the oldest messages, but for what the policy keeps.
//!
//! What is kept is stored again behind everything else, with a new sequence, and so arrives later than what
//! was published since. Only a message that was never sent can be kept: of another the gateway may know the
//! sequence it has now, and would take it twice.
//!
//! At least a quarter of a segment goes, so that each gains room and none is moved for nothing.
//!
//! Limits: [`TOPICS_MAX`].

use super::record::{read_payload, Mark, DIGEST_MAX, MESSAGE};
use super::store::Store;
use super::WhenFull;
use crate::flash::Flash;
use crate::log::checksum::crc;
use crate::log::Purpose;
use crate::units::At;

/// Topics of a segment that are followed to know their last messages; those of more are given up.
const TOPICS_MAX: usize = 32;
/// Ranks that messages can have: the higher, the longer they are kept.
const RANKS: usize = 10;
/// The rank of the last message of a topic.
const LAST: usize = 1;

/// The last message of a topic in a segment: a hash of the topic, and its sequence.
type Last = heapless::Vec<(u32, u64), TOPICS_MAX>;

/// What goes: everything below a rank, and of that rank as much as makes a quarter.
#[derive(Default)]
struct Cut {
    rank: usize,
    quarter: u32,
    gone: u32,
}

impl Cut {
    /// The cut through messages whose sizes are summed by rank.
    fn of(sizes: &[u32; RANKS]) -> Cut {
        let quarter = sizes.iter().fold(0u32, |sum, &size| sum.saturating_add(size)) / 4;
        let mut passed = 0u32;
        let rank = sizes.iter().position(|&size| {
            passed = passed.saturating_add(size);
            size > 0 && passed >= quarter
        });
        Cut { rank: rank.unwrap_or(0), quarter, gone: 0 }
    }

    /// Whether the next message is kept.
    fn keeps(&mut self, rank: usize, size: u32) -> bool {
        let goes = rank < self.rank || (rank == self.rank && (rank == 0 || self.gone < self.quarter));
        if goes {
            self.gone = self.gone.saturating_add(size);
        }
        !goes
    }
}

impl<F: Flash> Store<'_, F> {
    /// Gives up what waits in the oldest segment, but for what is kept.
    pub(super) fn give_up(&mut self) {
        let segment = self.oldest();
        let policy = self.policy;
        let last = if policy == WhenFull::KeepLast { self.last_of_topics(segment) } else { Last::new() };
        let (mut lowest, mut cut) = (0, Cut::default());
        if self.keeps() {
            let mut sizes = [0; RANKS];
            self.each_waiting(segment, |_, _, mark, size| {
                if let Some(sum) = sizes.get_mut(rank_of(&mark, policy, &last)) {
                    *sum = size.saturating_add(*sum);
                }
            });
            if policy == WhenFull::DropLowest {
                // What has the lowest priority there is goes whole, whichever that is.
                lowest = sizes.iter().position(|&size| size > 0).unwrap_or(0);
                sizes.rotate_left(lowest);
            }
            cut = Cut::of(&sizes);
        }
        self.each_waiting(segment, |store, at, mark, size| {
            let rank = rank_of(&mark, policy, &last).saturating_sub(lowest);
            let was_sent = store.lanes.get(mark.lane).is_none_or(|lane| mark.sequence <= lane.maybe_sent);
            let is_kept = cut.keeps(rank, size) && !was_sent && store.store_again(at, &mark);
            if !is_kept {
                store.dropped = store.dropped.saturating_add(1);
            }
            if let Some(lane) = store.lanes.get_mut(mark.lane) {
                lane.settled = mark.sequence;
            }
        });
    }

    /// Calls with each message of a segment that waits: where it is, what it is, its size.
    fn each_waiting(&mut self, segment: u32, mut see: impl FnMut(&mut Self, At, Mark, u32)) {
        let mut walk = self.log.walk();
        while let Some(at) = self.log.walk_on(&mut walk).filter(|_| walk.segment() <= segment) {
            let Ok(record) = self.log.read(at) else { continue };
            let (kind, size) = (record.kind, record.size);
            let Some(mark) = Mark::read(record.digest).filter(|_| kind == MESSAGE) else { continue };
            if self.lanes.get(mark.lane).is_some_and(|lane| mark.sequence > lane.settled) {
                see(self, at, mark, size);
            }
        }
    }

    /// The last messages of the topics in a segment that have none behind it.
    fn last_of_topics(&mut self, segment: u32) -> Last {
        let mut last = Last::new();
        let mut walk = self.log.walk();
        while let Some(at) = self.log.walk_on(&mut walk) {
            let is_behind = walk.segment() > segment;
            if is_behind && last.is_empty() {
                break;
            }
            let Ok(record) = self.log.read(at) else { continue };
            let mark = Mark::read(record.digest).filter(|_| record.kind == MESSAGE);
            let topic = read_payload(record.payload).map(|(_, topic, _)| crc(0, topic.as_bytes()));
            let (Some(mark), Some(topic)) = (mark, topic) else { continue };
            let known = last.iter().position(|&(known, _)| known == topic);
            match known {
                Some(index) if is_behind => drop(last.swap_remove(index)),
                Some(index) => last.get_mut(index).into_iter().for_each(|known| known.1 = mark.sequence),
                None if is_behind => {}
                // One more topic than are followed: its messages are given up.
                None => drop(last.push((topic, mark.sequence))),
            }
        }
        last
    }

    /// Stores a message again behind everything else; false if there is no room for that.
    fn store_again(&mut self, at: At, mark: &Mark) -> bool {
        let sequence = self.newest.saturating_add(1);
        let mut digest = [0; DIGEST_MAX];
        let again = Mark { moved_from: mark.sequence, sequence, ..*mark };
        let pieces: [(&[u8], _); 1] = [(&[], 0..usize::MAX)];
        let digest = again.write(&mut digest);
        let Ok(copy) = self.log.copy(at, MESSAGE, digest, &pieces, Purpose::Keep) else { return false };
        self.stored(mark.lane, sequence, copy);
        true
    }
}

/// How long a message is kept.
fn rank_of(mark: &Mark, policy: WhenFull, last: &Last) -> usize {
    match policy {
        WhenFull::DropLowest => mark.priority.into(),
        WhenFull::KeepLast if last.iter().any(|&(_, sequence)| sequence == mark.sequence) => LAST,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many messages of size 1 a rank go.
    fn gone(counts: [u32; 3]) -> [u32; 3] {
        let mut sizes = [0; RANKS];
        sizes[..3].copy_from_slice(&counts);
        let mut cut = Cut::of(&sizes);
        [0, 1, 2].map(|rank| (0..counts[rank]).filter(|_| !cut.keeps(rank, 1)).count() as u32)
    }

    #[test]
    fn the_lowest_rank_goes_and_of_the_next_what_makes_a_quarter() {
        assert_eq!(gone([40, 0, 0]), [40, 0, 0]);
        assert_eq!(gone([20, 20, 0]), [20, 0, 0]);
        assert_eq!(gone([4, 36, 0]), [4, 6, 0]);
        assert_eq!(gone([4, 4, 32]), [4, 4, 2]);
        assert_eq!(gone([0, 40, 0]), [0, 10, 0]);
        assert_eq!(gone([0, 0, 0]), [0, 0, 0]);
    }
}
