//! Pieces: a declaration that is longer than one digest of the log.
//!
//! Names, keys and arguments of AMQP may be 255 bytes each, and a mount sees digests only. So a long
//! declaration is several `META` records in one batch: they stand in one segment, next to each other, and a loss of
//! power leaves all of them or none. The noun points at the last one and thereby keeps them all; where reclaim
//! comes upon that, the declaration is written anew.
//! ```text
//! digest   PIECE u8 · pieces u8 · number u8 · noun u8 · its id varint · bytes
//! noun     0 exchange   1 queue   2 binding, by the exchange it leads from   3 nothing that is there
//! ```
//! A mount puts them together in the order in which they stand; one that is missing costs the declaration.
//!
//! Limits: [`WHOLE_MAX`] bytes.

use super::declare::{bond_of_id, meta_of_bond};
use super::meta::Meta;
use super::{refusal_of, Broker};
use crate::command::Refusal;
use crate::fixed::{Reader, Writer};
use crate::flash::Flash;
use crate::log::{AppendError, BatchSize, Log, Purpose, DIGEST_MAX};
use crate::units::{At, ExchangeId, QueueId};

/// First byte of the digest of a piece; above all that a declaration begins with.
const PIECE: u8 = 0x80;
/// Bytes of a piece before those of the declaration at most.
const FRONT_MAX: usize = 4 + 3;
/// Bytes of the declaration in one piece.
const PIECE_BYTES: usize = DIGEST_MAX - FRONT_MAX;
/// Longest declaration, in bytes.
pub(super) const WHOLE_MAX: usize = 1024;

/// Which noun a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noun {
    Exchange(ExchangeId),
    Queue(QueueId),
    BindingFrom(ExchangeId),
    Nothing,
}

impl Noun {
    fn of(meta: &Meta<'_>) -> Noun {
        match meta {
            Meta::Exchange(exchange) => Noun::Exchange(exchange.id),
            Meta::Queue(queue) => Noun::Queue(queue.id),
            Meta::Binding(binding) => Noun::BindingFrom(binding.exchange),
            _ => Noun::Nothing,
        }
    }

    fn write(self, to: &mut Writer<'_>) {
        let (byte, id) = match self {
            Noun::Exchange(id) => (0, id.0),
            Noun::Queue(id) => (1, id.0),
            Noun::BindingFrom(id) => (2, id.0),
            Noun::Nothing => (3, 0),
        };
        to.byte(byte);
        to.varint(id.into());
    }

    fn read(from: &mut Reader<'_>) -> Option<Noun> {
        let (byte, id) = (from.byte()?, u16::try_from(from.varint()?).ok()?);
        Some(match byte {
            0 => Noun::Exchange(ExchangeId(id)),
            1 => Noun::Queue(QueueId(id)),
            2 => Noun::BindingFrom(ExchangeId(id)),
            _ => Noun::Nothing,
        })
    }
}

/// A piece, taken apart.
struct Piece<'d> {
    count: u8,
    number: u8,
    noun: Noun,
    bytes: &'d [u8],
}

impl<'d> Piece<'d> {
    fn read(digest: &'d [u8]) -> Option<Piece<'d>> {
        let mut reader = Reader::new(digest);
        if reader.byte()? != PIECE {
            return None;
        }
        let (count, number) = (reader.byte()?, reader.byte()?);
        let noun = Noun::read(&mut reader)?;
        Some(Piece { count, number, noun, bytes: reader.rest() })
    }

    fn is_last(&self) -> bool {
        self.number.wrapping_add(1) == self.count
    }
}

/// Writes a declaration in pieces; where its last one stands. `whole` is how it is encoded.
pub(super) fn append<F: Flash>(
    log: &mut Log<'_, F>,
    meta: &Meta<'_>,
    whole: &[u8],
    purpose: Purpose,
) -> Result<At, Refusal> {
    let too_long = Refusal::Limit("declaration");
    let count = whole.len().div_ceil(PIECE_BYTES);
    let count_byte = u8::try_from(count).ok().filter(|_| whole.len() <= WHOLE_MAX).ok_or(too_long)?;
    let mut size = BatchSize::default();
    whole.chunks(PIECE_BYTES).for_each(|bytes| size.add(FRONT_MAX + bytes.len(), 0));
    log.begin_batch(&size, purpose).map_err(|error| match error {
        AppendError::TooLarge => too_long,
        error => refusal_of(error),
    })?;
    let mut last = Err(too_long);
    for (number, bytes) in (0..count_byte).zip(whole.chunks(PIECE_BYTES)) {
        let mut buffer = [0; DIGEST_MAX];
        let mut writer = Writer::new(&mut buffer);
        writer.bytes(&[PIECE, count_byte, number]);
        Noun::of(meta).write(&mut writer);
        writer.bytes(bytes);
        let digest = writer.finish().unwrap_or_default();
        last = log.append(super::record::kind::META, digest, &[], purpose).map_err(refusal_of);
        if last.is_err() {
            break;
        }
    }
    // Whatever became of it, what comes next is no part of it.
    log.end_batch().map_err(refusal_of)?;
    last
}

/// Puts declarations together while a log is played back.
#[derive(Default)]
pub(super) struct Assembly {
    whole: heapless::Vec<u8, WHOLE_MAX>,
    next: u8,
}

impl Assembly {
    /// Takes a record in. None: it is no piece. Else the whole declaration with its last piece, and nothing
    /// with those before it; Err if a piece is missing.
    pub(super) fn take(&mut self, digest: &[u8]) -> Option<Result<Option<&[u8]>, ()>> {
        let piece = Piece::read(digest)?;
        if piece.number == 0 {
            self.whole.clear();
        } else if piece.number != self.next {
            self.next = 0;
            return Some(Err(()));
        }
        self.next = piece.number.saturating_add(1);
        if self.whole.extend_from_slice(piece.bytes).is_err() {
            return Some(Err(()));
        }
        Some(Ok(piece.is_last().then_some(&*self.whole)))
    }
}

impl<F: Flash> Broker<'_, F> {
    /// Writes the declaration anew whose last piece is in the record at `at`.
    pub(super) fn judge_piece(&mut self, at: At) {
        let Ok(record) = self.log.read(at) else { return };
        let Some(piece) = Piece::read(record.digest).filter(Piece::is_last) else { return };
        // Where there is no room for it, its segment stays referenced and the log offers it again.
        match piece.noun {
            Noun::Exchange(id) if self.state.exchanges.get(id).and_then(|place| place.at) == Some(at) => {
                let _ = self.rewrite_exchange(id);
            }
            Noun::Queue(id) if self.state.queues.get(id).and_then(|place| place.at) == Some(at) => {
                let _ = self.rewrite_queue(id);
            }
            Noun::BindingFrom(id) => self.rewrite_binding_from(id, at),
            _ => {}
        }
    }

    /// Writes the binding of an exchange anew that stands at `at`.
    pub(super) fn rewrite_binding_from(&mut self, from: ExchangeId, at: At) {
        let bindings = &self.state.bindings;
        let mut next = bindings.first_from(from);
        let is_it = |id| bindings.get(id).is_some_and(|binding| binding.at == Some(at));
        while next.is_some_and(|id| !is_it(id)) {
            next = next.and_then(|id| bindings.next_from(id));
        }
        let Some(id) = next else { return };
        let (mut pattern, mut arguments) = ([0; WHOLE_MAX], [0; WHOLE_MAX]);
        let Some((bond, grade)) = bond_of_id(&self.state, id, &mut pattern, &mut arguments) else { return };
        let meta = Meta::Binding(meta_of_bond(&bond, grade as u8));
        let written = super::declare::append_meta(&mut self.log, self.state.scratch, &meta, Purpose::Reclaim);
        if let Ok(new_at) = written {
            self.set_binding_at(id, new_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(count: u8, number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[PIECE, count, number, 3, 0], bytes].concat()
    }

    #[test]
    fn pieces_are_put_together_in_their_order_only() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(&[2, 1]), None);
        assert_eq!(assembly.take(&piece(2, 0, b"ab")), Some(Ok(None)));
        assert_eq!(assembly.take(&piece(2, 1, b"c")), Some(Ok(Some(&b"abc"[..]))));
        // One that was never finished, and one without its beginning.
        assert_eq!(assembly.take(&piece(3, 0, b"xx")), Some(Ok(None)));
        assert_eq!(assembly.take(&piece(2, 0, b"ab")), Some(Ok(None)));
        assert_eq!(assembly.take(&piece(2, 1, b"c")), Some(Ok(Some(&b"abc"[..]))));
        assert_eq!(assembly.take(&piece(3, 0, b"xx")), Some(Ok(None)));
        assert_eq!(assembly.take(&piece(3, 2, b"yy")), Some(Err(())));
        assert_eq!(assembly.take(&piece(2, 1, b"c")), Some(Err(())));
        let long = [7; PIECE_BYTES];
        let outcomes: Vec<_> =
            (0..5).map(|number| assembly.take(&piece(5, number, &long)).map(|r| r.is_ok())).collect();
        assert_eq!(outcomes.last(), Some(&Some(false)));
    }
}
