//! The random simulator as a campaign: a case is a seed, and many lives of a broker.
//!
//! It knows more of a broker than the systematic campaigns do. A seed that fails is made small where it is asked for
//! alone, with `--cut`.

use super::{Bounds, Campaign};
use crate::gateway::torture::seeded::Script;
use crate::gateway::torture::shrink::shrink;
use crate::gateway::torture::simulator::{self, Options};
use crate::gateway::torture::stats::{Failure, Stats};

/// The name of the campaign.
pub const NAME: &str = "random";

/// Lines of the trace that are told.
const TRACE_LINES: usize = 40;

/// The campaign.
pub const RANDOM: Campaign = Campaign {
    name: NAME,
    about: "a broker with everything it can do, many lives with cuts at random, held against a model",
    cases: u64::MAX,
    run,
};

fn run(bounds: &Bounds, seed: u64) -> Result<Stats, Failure> {
    let seed = seed.wrapping_add(bounds.case.unwrap_or(0));
    match simulator::run(seed, &Options::default()) {
        Ok(ran) => Ok(Stats { cuts: ran.cuts, mounts: ran.mounts, ..Stats::default() }),
        Err(failure) => {
            let small = bounds.cut.and_then(|_| shrink(&Script::of(seed, &Options::default())));
            let failure = small.map_or(failure, |small| small.failure);
            let skipped = failure.trace.len().saturating_sub(TRACE_LINES);
            let trace: Vec<&str> = failure.trace.iter().skip(skipped).map(String::as_str).collect();
            Err(Failure {
                campaign: NAME,
                seed,
                case: 0,
                cut: 0,
                second: None,
                setting: trace.join("\n"),
                what: format!("life {}: {}", failure.life, failure.message),
            })
        }
    }
}
