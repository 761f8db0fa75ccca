//! `forebay torture`: the campaigns, as many cuts of power as are wished, on this machine.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::args::Torture;
use super::print;
use crate::gateway::errors::Fatal;
use crate::gateway::torture::campaign::{Bounds, Campaign, CAMPAIGNS};
use crate::gateway::torture::card;
use crate::gateway::torture::random::Random;
use crate::gateway::torture::stats::{Failure, Stats};

/// Cuts if nobody says how many.
const CUTS: u64 = 1_000_000;
/// Lives on a real medium if nobody says how many.
const LIVES: u64 = 200;
/// How often progress is shown on a terminal, and elsewhere.
const SHOW_EVERY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// How long a campaign goes on at least when it is its turn: the cases of some are short.
const TURN: Duration = Duration::from_millis(250);

/// What the threads of a run share.
struct Run<'r> {
    task: &'r Torture,
    seed: u64,
    cuts: u64,
    campaigns: Vec<&'static Campaign>,
    /// The next case of each, over all seeds.
    next: Vec<AtomicU64>,
    /// How often another campaign was begun with.
    turn: AtomicUsize,
    outcome: Mutex<Outcome>,
}

struct Outcome {
    sums: Vec<Stats>,
    failure: Option<Failure>,
    begun: Instant,
    shown: Instant,
}

impl Outcome {
    fn total(&self) -> Stats {
        self.sums.iter().fold(Stats::default(), |mut sum, stats| {
            sum += *stats;
            sum
        })
    }
}

/// Runs what is asked for; an error is a promise that was not kept.
pub fn torture(task: &Torture) -> Result<(), Fatal> {
    let seed = task.seed.unwrap_or_else(|| Random(u64::from(std::process::id())).draw() % 1_000_000_000);
    if let Some(directory) = &task.on {
        let lives = task.cuts.unwrap_or(LIVES);
        let mut shown = Instant::now();
        let mut show = |stats: &Stats| show(&mut shown, stats, lives);
        let stats = card::run(directory, lives, seed, &mut show).map_err(Fatal)?;
        let seconds = stats.elapsed.as_secs_f64();
        return print(&format!(
            "{} losses of power on {}, seed {seed}: nothing confirmed was lost; {seconds:.1} s\n",
            stats.cuts,
            directory.display()
        ));
    }
    let campaigns: Vec<&Campaign> = match task.campaign {
        Some(name) => CAMPAIGNS.iter().filter(|campaign| campaign.name == name).collect(),
        None => CAMPAIGNS.iter().collect(),
    };
    let threads = task.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, |n| n.get()));
    let now = Instant::now();
    let sums = vec![Stats::default(); campaigns.len()];
    let run = Run {
        task,
        seed,
        cuts: task.cuts.unwrap_or(CUTS),
        next: campaigns.iter().map(|_| AtomicU64::new(0)).collect(),
        campaigns,
        turn: AtomicUsize::new(0),
        outcome: Mutex::new(Outcome { sums, failure: None, begun: now, shown: now }),
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| run.work());
        }
        run.work();
    });
    run.tell()
}

impl Run<'_> {
    /// Takes case after case, a while of each campaign in turn, until there were cuts enough.
    fn work(&self) {
        let mut which = self.turn.fetch_add(1, Ordering::Relaxed) % self.campaigns.len();
        let mut begun = Instant::now();
        while let (Some(campaign), Some(next)) = (self.campaigns.get(which), self.next.get(which)) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let seed = self.seed + number / campaign.cases;
            let case = self.task.case.unwrap_or(number % campaign.cases);
            if self.task.case.is_some() && number > 0 {
                return;
            }
            let bounds =
                Bounds { case: Some(case), cut: self.task.cut, second: self.task.second, ..Bounds::ALL };
            let before = Instant::now();
            let done = (campaign.run)(&bounds, seed);
            if self.take(which, done, before.elapsed()) {
                return;
            }
            if begun.elapsed() >= TURN {
                which = self.turn.fetch_add(1, Ordering::Relaxed) % self.campaigns.len();
                begun = Instant::now();
            }
        }
    }

    /// Adds what a case gave; true if that is all.
    fn take(&self, which: usize, done: Result<Stats, Failure>, elapsed: Duration) -> bool {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match done {
            Ok(stats) => {
                if let Some(sum) = outcome.sums.get_mut(which) {
                    *sum += Stats { elapsed, ..stats };
                }
            }
            Err(failure) => {
                outcome.failure.get_or_insert(failure);
            }
        }
        let total = outcome.total();
        let total = Stats { elapsed: outcome.begun.elapsed(), ..total };
        show(&mut outcome.shown, &total, self.cuts);
        outcome.failure.is_some() || total.cuts >= self.cuts
    }

    fn tell(self) -> Result<(), Fatal> {
        let outcome = self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (campaign, stats) in self.campaigns.iter().zip(&outcome.sums) {
            text += &format!("{:12} {stats}\n", campaign.name);
        }
        let total = outcome.total();
        let seconds = outcome.begun.elapsed().as_secs_f64();
        let rate = total.cuts as f64 / seconds.max(0.001);
        let Stats { cuts, mounts, .. } = total;
        text += &format!(
            "together     {cuts} cuts, {mounts} mounts, seed {}, {seconds:.0} s, {rate:.0} cuts a second\n",
            self.seed
        );
        print(&text)?;
        match outcome.failure {
            Some(failure) => Err(Fatal(format!("a promise was not kept\n{failure}"))),
            None => print("every confirmed message was kept, and every loss by damage was reported\n"),
        }
    }
}

/// Shows how far it is, now and then.
fn show(shown: &mut Instant, stats: &Stats, of: u64) {
    let is_terminal = io::stderr().is_terminal();
    let [often, seldom] = SHOW_EVERY;
    if shown.elapsed() < if is_terminal { often } else { seldom } {
        return;
    }
    *shown = Instant::now();
    let percent = (stats.cuts.min(of) * 100).checked_div(of).unwrap_or(100);
    let end = if is_terminal { "\r" } else { "\n" };
    let seconds = stats.elapsed.as_secs_f64();
    let _ = write!(io::stderr(), "{percent:3} %: {} cuts in {seconds:.0} s{end}", stats.cuts);
}
