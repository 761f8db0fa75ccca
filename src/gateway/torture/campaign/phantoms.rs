//! Campaign 5: payloads that hold whole records, headers and footers, at every shift.
//!
//! A log that finds its records by looking for something that checks can be led astray by what was
//! published: torn in the right place, a record gives way to what stands in its payload, and from there
//! on the log is read at a shifted alignment. Here every payload is such a phantom. A script is run twice:
//! the second time its bodies, of the same lengths and thus in the same places, are made of what
//! the first run left in the same segment: records of this life of it and of those before, headers,
//! footers, each begun 0 to one write unit late. Then it is cut everywhere, as in campaign 1.
//!
//! What is not tried is a phantom at the very place its bytes come from: they check there, since the second
//! run goes through the same lives with the same nonces. Nobody makes that by accident. Whoever means to has to know
//! the checksum of a header not yet written, and a device with a cache has another nonce with each start.

use super::every_byte::{case, script_of, sweep, ACTS, CASES as ALL_CASES, MESSAGES, SPARE};
use super::{spread, Bounds};
use crate::gateway::torture::random::Random;
use crate::gateway::torture::script::{plain_bodies, record, Recording};
use crate::gateway::torture::stats::{Failure, Stats};
use crate::gateway::torture::toy::Bodies;
use crate::log::RECORD_OVERHEAD;
use std::ops::RangeInclusive;

/// Name of the campaign.
pub const NAME: &str = "phantoms";
/// Number of cases, which are those of campaign 1.
pub const CASES: u64 = ALL_CASES;
/// Bytes of a segment's end that hold its trailer and the end of its index.
const FOOTER_BYTES: usize = 64;
/// How far behind the beginning of a record its body may begin.
const FRONT_BYTES: RangeInclusive<usize> = 8..=RECORD_OVERHEAD + 5;

/// Runs the campaign.
pub fn run(bounds: &Bounds, seed: u64) -> Result<Stats, Failure> {
    spread(bounds, CASES, |number| one(bounds, number, seed))
}

fn one(bounds: &Bounds, number: u64, seed: u64) -> Result<Stats, Failure> {
    let (setting, tear) = case(number);
    let script = script_of(number, seed);
    let first = record(&setting, plain_bodies(MESSAGES - SPARE, script), ACTS, script);
    let setting_text = format!("{setting}, {tear:?}");
    let first = first.map_err(|what| Failure {
        campaign: NAME,
        seed,
        case: number,
        cut: 0,
        second: None,
        setting: setting_text,
        what,
    })?;
    let geometry = setting.geometry;
    let bodies = haunted(&first, geometry.segment_size as usize, geometry.write_unit as usize, script);
    sweep(NAME, bounds, number, seed, record(&setting, bodies, ACTS, script))
}

/// The bodies of a run, made of what it left.
fn haunted(run: &Recording, size: usize, unit: usize, seed: u64) -> Bodies {
    let mut random = Random::part(seed, 0x6057);
    let bodies = run.bodies.0.iter().enumerate().map(|(id, body)| {
        let Some(at) = run.places.get(id).map(|at| at.0 as usize) else { return body.clone() };
        let segment = at / size * size;
        let image = &run.images[random.below(2) as usize];
        let from = match random.below(5) {
            0 => segment,
            1 => segment + size - FOOTER_BYTES,
            // Records of the same segment, by where they were published.
            2 | 3 => {
                let near = run.places.iter().map(|at| at.0 as usize);
                let within = near.filter(|&place| place / size * size == segment && place != at);
                let count = within.clone().count() as u64;
                within.clone().nth(random.below(count) as usize).unwrap_or(segment)
            }
            _ => segment + random.below(size as u64 / 2) as usize,
        };
        // Late by 0 to a unit, or so that the phantom begins on a unit.
        let late = random.below(unit.min(body.len() + 1) as u64 + 1) as usize;
        // What would stand where it was taken from gives way to a header.
        let is_in_place = FRONT_BYTES.contains(&((from + size - late) % size).wrapping_sub(at % size));
        let from = if is_in_place { segment } else { from };
        let mut phantom = vec![0x5a; late.min(body.len())];
        phantom.extend(image[from..].iter().chain(image.iter()).take(body.len() - phantom.len()));
        phantom
    });
    Bodies(bodies.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of the first run stood here in the payload of one a lap older, where it checked; power went
    /// when the record of the second run had not overwritten it.
    #[test]
    fn a_phantom_does_not_stand_where_it_was_taken_from() {
        for cut in [16_351, 16_352] {
            let bounds = Bounds { case: Some(84), cut: Some(cut), ..Bounds::ALL };
            let stats = run(&bounds, 20_261_204).unwrap_or_else(|failure| panic!("{failure}"));
            assert!(stats.continued > 0, "cut {cut}: {stats}");
        }
    }
}
