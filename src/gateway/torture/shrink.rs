//! Shrinking: the smallest part of a script that still goes wrong.
//!
//! Lives are left out, then cuts of mounts, then actions, in halves and quarters and one by one, as
//! long as the run still fails in the same way.

use super::seeded::Script;
use super::simulator::{play, Failure, Stats};

/// Runs that are tried at most.
const TRIALS_MAX: u32 = 6_000;

/// A failing script, and how small it got.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The script.
    pub script: Script,
    /// How it fails.
    pub failure: Failure,
    /// Runs that were tried.
    pub trials: u32,
}

impl std::fmt::Display for Shrunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Script { geometry, device, pages, lives, .. } = &self.script;
        let actions: usize = lives.iter().map(|life| life.actions.len()).sum();
        writeln!(f, "{geometry:?} {device:?}, {pages} pages")?;
        writeln!(f, "{} lives, {actions} actions, after {} trials", lives.len(), self.trials)?;
        self.failure.fmt(f)
    }
}

/// Makes a failing script small. None if it does not fail.
pub fn shrink(script: &Script) -> Option<Shrunk> {
    let failure = fails(script)?;
    let mut best = Shrunk { script: script.clone(), failure, trials: 0 };
    best.script.lives.truncate(best.failure.life + 1);
    loop {
        let before = size(&best.script);
        reduce(&mut best, |script| script.lives.len(), |script, from, to| drop(script.lives.drain(from..to)));
        for life in 0..best.script.lives.len() {
            reduce(
                &mut best,
                |script| script.lives.get(life).map_or(0, |life| life.mount_cuts.len()),
                |script, from, to| drop(script.lives[life].mount_cuts.drain(from..to)),
            );
            reduce(
                &mut best,
                |script| script.lives.get(life).map_or(0, |life| life.actions.len()),
                |script, from, to| drop(script.lives[life].actions.drain(from..to)),
            );
        }
        if size(&best.script) == before || best.trials >= TRIALS_MAX {
            break;
        }
    }
    let mut unused = Stats::default();
    if let Err(failure) = play(&best.script, &mut unused, true) {
        best.failure = failure;
    }
    Some(best)
}

fn fails(script: &Script) -> Option<Failure> {
    play(script, &mut Stats::default(), false).err()
}

/// What is wrong, whatever its numbers.
fn kind(failure: &Failure) -> String {
    let end = failure.message.find(['{', '[']).unwrap_or(failure.message.len());
    let words = failure.message.get(..end).unwrap_or_default().split_whitespace();
    words.filter(|word| !word.contains(|letter: char| letter.is_ascii_digit())).collect()
}

fn size(script: &Script) -> usize {
    script.lives.iter().map(|life| 1 + life.actions.len() + life.mount_cuts.len()).sum()
}

/// Leaves out parts, half of all first, as long as it still fails.
fn reduce(best: &mut Shrunk, count: impl Fn(&Script) -> usize, cut: impl Fn(&mut Script, usize, usize)) {
    let wanted = kind(&best.failure);
    let mut part = count(&best.script).div_ceil(2);
    while part > 0 {
        let mut from = 0;
        while from < count(&best.script) && best.trials < TRIALS_MAX {
            let to = (from + part).min(count(&best.script));
            let mut trial = best.script.clone();
            cut(&mut trial, from, to);
            best.trials += 1;
            match fails(&trial) {
                Some(failure) if kind(&failure) == wanted => {
                    trial.lives.truncate(failure.life + 1);
                    (best.script, best.failure) = (trial, failure);
                }
                _ => from = to,
            }
        }
        part /= 2;
    }
}
