//! The log on standard error: one line a message, with the time in UTC.
//!
//! ```text
//! 2026-11-22T18:00:00Z INFO  listening: mqtt on 127.0.0.1:1883
//! ```

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

static STDERR: Stderr = Stderr;

/// Makes standard error the log; may be called again to change the level.
pub fn start(level: LevelFilter) {
    // An error only says that it was started before, and then the level is all there is to set.
    if log::set_logger(&STDERR).is_err() {
        log::debug!("log level is now {level}");
    }
    log::set_max_level(level);
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let line = format!("{} {:5} {}\n", Utc(seconds), record.level(), record.args());
        // Nobody is left to tell if standard error is closed.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// Seconds since 1970 as a date.
pub struct Utc(pub u64);

impl std::fmt::Display for Utc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        // Counted from 1 March of year 0, leap days are the last of their year and four-year,
        // century and four-century cycles nest.
        let day = days + 719_468;
        let (cycle, day) = (day / 146_097, day % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day_of_month = day - (153 * month + 2) / 5 + 1;
        let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        write!(
            f,
            "{:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}Z",
            cycle * 400 + year + carry,
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_370_400, "2026-11-22T18:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Utc(seconds).to_string(), text);
        }
    }
}
