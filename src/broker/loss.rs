//! What a damaged record was, as far as its digest still says.
//!
//! A record that is told from the footer of its segment is known even if its bytes are not whole;
//! this takes such a digest apart for whoever reports it, and says what its loss means.

use super::meta::Meta;
use super::record::{kind, Head};
use crate::fixed::Reader;
use crate::units::{Offset, QueueId};

/// Something that was recorded and is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A message of a queue or stream.
    Message {
        /// Where it was kept.
        queue: QueueId,
        /// Its offset there.
        offset: Offset,
    },
    /// The last value of a key; known by its hash.
    Retained(u64),
    /// That messages were acknowledged, expired or dropped: they are delivered again.
    Done {
        /// Their queue.
        queue: QueueId,
        /// The first.
        first: Offset,
        /// How many.
        count: u64,
    },
    /// That an exactly-once delivery was received: it is delivered again.
    Received {
        /// Its queue.
        queue: QueueId,
        /// Its offset.
        offset: Offset,
    },
    /// How far messages may have been delivered before: they may come again unmarked.
    Exposed {
        /// Their queue.
        queue: QueueId,
    },
    /// That a delivery came back: its count of deliveries begins again.
    Returned {
        /// Its queue.
        queue: QueueId,
        /// Its offset.
        offset: Offset,
    },
    /// A declaration, or that something declared is gone.
    Declaration,
    /// That a publish was seen: it is taken for new if it comes again.
    Dedup,
    /// Log time.
    Time,
}

/// Shows everything that was in a record of this kind and digest.
pub fn for_each_loss(record_kind: u8, digest: &[u8], visit: &mut dyn FnMut(Loss)) {
    if record_kind & kind::MESSAGE != 0 {
        let Some((head, routes)) = Head::read(record_kind, digest) else { return };
        head.retained.into_iter().for_each(|hash| visit(Loss::Retained(hash)));
        if head.dedup.is_some() {
            visit(Loss::Dedup);
        }
        for route in routes.filter(|route| !route.transient) {
            visit(Loss::Message { queue: route.queue, offset: route.offset });
        }
        return;
    }
    if record_kind == kind::META {
        match Meta::read(digest) {
            Some(Meta::Anchor(_)) => visit(Loss::Time),
            Some(Meta::Key(..) | Meta::KeyGone(_)) => visit(Loss::Dedup),
            _ => visit(Loss::Declaration),
        }
        return;
    }
    if let Some(loss) = settled(record_kind, &mut Reader::new(digest)) {
        visit(loss);
    }
}

fn settled(record_kind: u8, from: &mut Reader<'_>) -> Option<Loss> {
    let queue = QueueId(u16::try_from(from.varint()?).ok()?);
    let offset = Offset(from.varint()?);
    Some(match record_kind {
        kind::ACKS => Loss::Done { queue, first: offset, count: from.varint()? },
        kind::RECEIVED => Loss::Received { queue, offset },
        kind::EXPOSED => Loss::Exposed { queue },
        kind::RETURNED => Loss::Returned { queue, offset },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::{write_digest, Marks, Route};
    use super::*;
    use crate::fixed::Writer;
    use crate::units::Millis;

    fn losses(record_kind: u8, digest: &[u8]) -> Vec<Loss> {
        let mut all = Vec::new();
        for_each_loss(record_kind, digest, &mut |loss| all.push(loss));
        all
    }

    #[test]
    fn a_message_is_lost_in_every_queue_it_was_kept_in() {
        let head = Head { retained: Some(9), ..Head::default() };
        let route = |queue, offset, transient| Route {
            queue: QueueId(queue),
            offset: Offset(offset),
            transient,
            ..Route::EMPTY
        };
        let routes = [route(3, 70, false), route(4, 1, true), route(5, 2, false)];
        let mut buffer = [0; 64];
        let routes = routes.map(|route| (route, Marks::default()));
        let digest = write_digest(&mut buffer, &head, routes.into_iter()).unwrap();
        let message = |queue, offset| Loss::Message { queue: QueueId(queue), offset: Offset(offset) };
        assert_eq!(losses(head.kind(), digest), [Loss::Retained(9), message(3, 70), message(5, 2)]);
    }

    #[test]
    fn an_acknowledgement_says_what_comes_again_and_damage_says_nothing() {
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer);
        [3, 70, 12].iter().for_each(|&number| writer.varint(number));
        let digest = writer.finish().unwrap();
        let done = Loss::Done { queue: QueueId(3), first: Offset(70), count: 12 };
        assert_eq!(losses(kind::ACKS, digest), [done]);
        assert_eq!(losses(kind::ACKS, &digest[..2]), []);
        let anchor = Meta::Anchor(Millis(5));
        assert_eq!(losses(kind::META, anchor.write(&mut buffer).unwrap()), [Loss::Time]);
    }
}
