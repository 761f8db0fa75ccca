//! Looking through a store for damage, a segment at a time, without changing it.
//!
//! A mount believes the footers and reads no record that a footer tells of, so a damaged one is noticed
//! when it is delivered or moved. A scrub reads every record now. Where the footer is whole, it still
//! knows what a damaged record was; where it is not, or the segment is open, the extent is told alone.

use super::bytes::take_mut;
use super::checksum::crc;
use super::index::IndexReader;
use super::layout::{Trailer, TRAILER_SIZE};
use super::medium::Medium;
use super::scan::{Scanner, Step};
use super::survey::trailer;
use super::types::{Damage, Extent, Scrubbed, KIND_LIMIT};
use super::Log;
use crate::flash::Flash;
use crate::units::Position;

impl<F: Flash> Log<'_, F> {
    /// Reads every record of one segment and tells what is damaged. Start with none; then go on with
    /// what the last answer names, until it names nothing.
    pub fn scrub(&mut self, sequence: Option<u32>, found: &mut dyn FnMut(&Damage<'_>)) -> Scrubbed {
        let sequence = sequence.unwrap_or(self.space.head).max(self.space.head);
        let mut scrubbed = Scrubbed::default();
        if sequence > self.space.last {
            return scrubbed;
        }
        scrubbed.next = sequence.checked_add(1).filter(|&next| next <= self.space.last);
        let limit = self.content_end(sequence);
        if limit <= self.medium.ring.start() {
            return scrubbed;
        }
        let footer = trailer(&mut self.medium, self.salt, sequence);
        let header = self.medium.header(sequence, self.salt);
        scrubbed.header_lost = header.is_none();
        scrubbed.footer_lost = footer.is_none() && sequence != self.space.last;
        let Some(seed) = header.map(|header| header.seed).or(footer.map(|footer| footer.seed)) else {
            let position = Position::new(sequence, 0);
            let (at, size) = (self.medium.ring.at(position), self.medium.ring.size());
            found(&Damage { at, position, size, extent: Extent::Segment, record: None });
            scrubbed.damages = 1;
            return scrubbed;
        };
        let scanner = Scanner::with_seed(self.medium.ring, sequence, seed, self.medium.ring.start(), limit);
        let closed = footer.filter(|footer| footer.seed == seed && self.open.is_none());
        let told = match closed {
            Some(footer) => self.scrub_by_footer(&footer, sequence, scanner, found, &mut scrubbed),
            None => false,
        };
        if !told {
            scrubbed.footer_lost |= closed.is_some();
            self.scrub_by_records(scanner, found, &mut scrubbed);
        }
        scrubbed
    }

    fn scrub_by_footer(
        &mut self,
        footer: &Trailer,
        sequence: u32,
        scanner: Scanner,
        found: &mut dyn FnMut(&Damage<'_>),
        scrubbed: &mut Scrubbed,
    ) -> bool {
        let (ring, mut scanner) = (self.medium.ring, scanner);
        let Some(index) = read_index(&mut self.medium, self.index.memory(), footer, sequence) else {
            return false;
        };
        let mut reader = IndexReader::new(ring, index);
        while let Some(entry) = reader.next() {
            if entry.offset >= scanner.limit() {
                break;
            }
            scanner.offset = entry.offset;
            let buffer = self.windows.memory();
            scrubbed.records = scrubbed.records.saturating_add(1);
            let is_whole = matches!(scanner.next(&mut self.medium, buffer), Step::Record(_));
            if is_whole || entry.kind >= KIND_LIMIT {
                continue;
            }
            if scanner.mend(&mut self.medium, buffer).is_some() {
                scrubbed.mended = scrubbed.mended.saturating_add(1);
                continue;
            }
            let position = Position::new(sequence, entry.offset);
            let record = Some((entry.kind, entry.digest));
            let (at, size) = (ring.at(position), entry.framed);
            found(&Damage { at, position, size, extent: Extent::Records, record });
            scrubbed.damages = scrubbed.damages.saturating_add(1);
        }
        true
    }

    fn scrub_by_records(
        &mut self,
        scanner: Scanner,
        found: &mut dyn FnMut(&Damage<'_>),
        scrubbed: &mut Scrubbed,
    ) {
        let (ring, mut scanner) = (self.medium.ring, scanner);
        let buffer = self.windows.memory();
        loop {
            match scanner.next(&mut self.medium, buffer) {
                Step::Record(_) => scrubbed.records = scrubbed.records.saturating_add(1),
                Step::End => return,
                Step::Bad if scanner.mend(&mut self.medium, buffer).is_some() => {
                    scrubbed.mended = scrubbed.mended.saturating_add(1);
                    scrubbed.records = scrubbed.records.saturating_add(1);
                }
                Step::Bad => {
                    let position = scanner.position();
                    scanner.resync(&mut self.medium, buffer);
                    let size = scanner.offset.saturating_sub(position.offset());
                    let at = ring.at(position);
                    found(&Damage { at, position, size, extent: Extent::Records, record: None });
                    scrubbed.damages = scrubbed.damages.saturating_add(1);
                }
            }
        }
    }
}

/// The index in a segment's footer, if it is whole.
fn read_index<'i, F: Flash>(
    medium: &mut Medium<F>,
    memory: &'i mut [u8],
    footer: &Trailer,
    sequence: u32,
) -> Option<&'i [u8]> {
    let ring = medium.ring;
    let offset = ring.size().checked_sub(TRAILER_SIZE)?.checked_sub(footer.index_size)?;
    let index = take_mut(memory, 0, footer.index_size as usize)?;
    medium.read(ring.index(sequence), offset, index).ok()?;
    (crc(0, index) == footer.index_crc).then_some(index)
}
