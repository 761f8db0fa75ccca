//! What a run of torture did, and what it found.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// What was done; sums of runs are runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Stores that were left by a loss of power, or made damaged in another way.
    pub cuts: u64,
    /// Mounts of them, all of which were checked.
    pub mounts: u64,
    /// Mounts that copied what was in doubt.
    pub recoveries: u64,
    /// Stores on which publishes were made durable and found again.
    pub continued: u64,
    /// Messages lost by damage (never by a loss of power).
    pub lost: u64,
    /// Losses that were reported.
    pub reported: u64,
    /// Stores that could not be mounted, as it is allowed for some damage.
    pub refused: u64,
    /// Most calls to the device that one mount made.
    pub most_calls: u64,
    /// Time of all threads together.
    pub elapsed: Duration,
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Stats) {
        self.cuts += other.cuts;
        self.mounts += other.mounts;
        self.recoveries += other.recoveries;
        self.continued += other.continued;
        self.lost += other.lost;
        self.reported += other.reported;
        self.refused += other.refused;
        self.most_calls = self.most_calls.max(other.most_calls);
        self.elapsed += other.elapsed;
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        write!(
            f,
            "{} cuts, {} mounts ({} with copies), {} continued, {} lost, {} reported, {} refused, \
             at most {} device calls a mount, {seconds:.1} s, {:.0} cuts a second",
            self.cuts,
            self.mounts,
            self.recoveries,
            self.continued,
            self.lost,
            self.reported,
            self.refused,
            self.most_calls,
            self.cuts as f64 / seconds.max(0.001),
        )
    }
}

/// A promise that was not kept, and how to see it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Name of the campaign.
    pub campaign: &'static str,
    /// Seed of the run.
    pub seed: u64,
    /// Number of the case in the campaign.
    pub case: u64,
    /// Step at which power was cut, or the number of the damage.
    pub cut: u64,
    /// Step of the second cut.
    pub second: Option<u64>,
    /// What the case is.
    pub setting: String,
    /// What was wrong.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { campaign, seed, case, cut, .. } = self;
        writeln!(f, "{campaign}: {}", self.what)?;
        writeln!(f, "{}", self.setting)?;
        write!(f, "forebay torture --campaign {campaign} --seed {seed} --case {case} --cut {cut}")?;
        self.second.map_or(Ok(()), |second| write!(f, " --second {second}"))
    }
}
