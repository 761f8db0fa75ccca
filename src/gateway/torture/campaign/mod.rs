//! Systematic campaigns: not what chance finds, but everything of a kind, one after the other.
//!
//! ```text
//! every_byte     power cut at every byte of every operation, for every tear
//! two_cuts       and again at every byte of the recovery
//! lives          the random simulator: a broker with everything it can do against a model
//! broker         a share of both under the real broker
//! phantoms       payloads that look like the log's own bytes
//! bad_segments   a device that gets worse
//! flips          every single bit of a full store, under the real broker
//! images         anything at all on the device
//! boot_loops     power that comes and goes, and never stays for long
//! ```
//! A campaign is a number of cases, each of them a device and a script made from the seed; a case is a
//! number of cuts. The numbers of case and cut are all that a failure needs to be seen again.

pub mod bad_segments;
pub mod boot_loops;
pub mod broker;
pub mod every_byte;
pub mod flips;
pub mod images;
pub mod lives;
pub mod phantoms;
pub mod two_cuts;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use super::stats::{Failure, Stats};

/// How much of a campaign is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Threads.
    pub threads: usize,
    /// Only every so many cases.
    pub cases_apart: u64,
    /// Only every so many cuts of a case.
    pub cuts_apart: u64,
    /// Stop at the end of a case when this time has come.
    pub until: Option<Instant>,
    /// Only this case.
    pub case: Option<u64>,
    /// Only this cut of each case.
    pub cut: Option<u64>,
    /// Only this second cut.
    pub second: Option<u64>,
}

impl Bounds {
    /// All of it, on one thread.
    pub const ALL: Bounds = Bounds {
        threads: 1,
        cases_apart: 1,
        cuts_apart: 1,
        until: None,
        case: None,
        cut: None,
        second: None,
    };

    /// Whether a cut of a case is to be made.
    pub fn has_cut(&self, case: u64, cut: u64) -> bool {
        match self.cut {
            Some(only) => only == cut,
            // Other cuts in every case, so that together they are spread.
            None => (cut + case * 7) % self.cuts_apart.max(1) == 0,
        }
    }

    fn has_case(&self, case: u64) -> bool {
        self.case.map_or(case % self.cases_apart.max(1) == 0, |only| only == case)
    }
}

/// A campaign, by name.
#[derive(Clone, Copy)]
pub struct Campaign {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// How many cases it has.
    pub cases: u64,
    /// Runs it.
    pub run: fn(&Bounds, u64) -> Result<Stats, Failure>,
}

/// Every campaign.
pub const CAMPAIGNS: [Campaign; 9] = [
    Campaign {
        name: every_byte::NAME,
        about: "power cut at every byte of every operation of a script, for every tear, unit and device",
        cases: every_byte::CASES,
        run: every_byte::run,
    },
    Campaign {
        name: two_cuts::NAME,
        about: "power cut at every byte, and again at every byte of the recovery, for every pair of tears",
        cases: two_cuts::CASES,
        run: two_cuts::run,
    },
    Campaign {
        name: phantoms::NAME,
        about: "payloads that hold whole records, headers and footers at every shift, cut at every byte",
        cases: phantoms::CASES,
        run: phantoms::run,
    },
    Campaign {
        name: boot_loops::NAME,
        about: "a thousand starts in a row with power for a moment each, then power that stays",
        cases: boot_loops::CASES,
        run: boot_loops::run,
    },
    Campaign {
        name: bad_segments::NAME,
        about: "segments wear out, bits stick, programs fall short and syncs fail while a script runs",
        cases: bad_segments::CASES,
        run: bad_segments::run,
    },
    Campaign {
        name: broker::NAME,
        about: "the real broker cut at every byte of a script, and some of its recoveries again",
        cases: broker::CASES,
        run: broker::run,
    },
    Campaign {
        name: flips::NAME,
        about: "every single bit of a full store flips, then every byte is struck, under the real broker",
        cases: flips::CASES,
        run: flips::run,
    },
    Campaign {
        name: images::NAME,
        about: "images that nobody wrote: flipped, drawn, spliced from stores and moments, forged headers",
        cases: images::CASES,
        run: images::run,
    },
    lives::RANDOM,
];

/// Runs the cases of a campaign on some threads.
pub fn spread(
    bounds: &Bounds,
    cases: u64,
    work: impl Fn(u64) -> Result<Stats, Failure> + Sync,
) -> Result<Stats, Failure> {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let outcome = Mutex::new(Ok(Stats::default()));
    let turn = || {
        while !stop.load(Ordering::Relaxed) {
            let case = next.fetch_add(1, Ordering::Relaxed);
            if case >= cases || bounds.until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            if !bounds.has_case(case) {
                continue;
            }
            let begun = Instant::now();
            let done = work(case);
            let Ok(mut outcome) = outcome.lock() else { break };
            match (&mut *outcome, done) {
                (Ok(sum), Ok(stats)) => *sum += Stats { elapsed: begun.elapsed(), ..stats },
                (Ok(_), Err(failure)) => {
                    *outcome = Err(failure);
                    stop.store(true, Ordering::Relaxed);
                }
                (Err(_), _) => {}
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..bounds.threads {
            scope.spawn(turn);
        }
        turn();
    });
    outcome.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}
