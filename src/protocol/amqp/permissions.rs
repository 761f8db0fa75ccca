//! What a user may do: three lists of patterns, as RabbitMQ's three permissions.
//!
//! | to | configure | write | read |
//! |---|---|---|---|
//! | declare or delete a queue or exchange | it | its dead-letter or alternate exchange | it, if it names such |
//! | bind, unbind | | where to | where from |
//! | publish | | the exchange, `amq.default` for the one without a name | |
//! | consume, get, purge | | | the queue |
//!
//! In a pattern `*` stands for anything, also for nothing. The first entry that names the user counts; where there
//! are entries and none does, the user may open no virtual host. Without any entry everybody may do everything.

use super::errors::{code, Fault};
use super::session::AmqpSession;

/// Name of the default exchange, where it needs one.
const DEFAULT_NAME: &str = "amq.default";

/// What some users may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// A pattern of the names of users.
    pub user: String,
    /// Patterns of what they may declare and delete.
    pub configure: Vec<String>,
    /// Patterns of what they may publish or bind to.
    pub write: Vec<String>,
    /// Patterns of what they may consume or bind from.
    pub read: Vec<String>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// To declare or delete.
    Configure,
    /// To publish or bind to.
    Write,
    /// To consume or bind from.
    Read,
}

/// What a user was granted at the login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granted {
    /// There are no permissions.
    #[default]
    Everything,
    /// There are, and none for this user.
    Nothing,
    /// The one in this place.
    Entry(usize),
}

impl Granted {
    /// What a user is granted by some entries.
    pub fn to(user: &str, entries: &[Permission]) -> Granted {
        if entries.is_empty() {
            return Granted::Everything;
        }
        let place = entries.iter().position(|entry| matches(&entry.user, user));
        place.map_or(Granted::Nothing, Granted::Entry)
    }
}

/// Whether a name is of a pattern.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

impl Permission {
    fn allows(&self, right: Right, name: &str) -> bool {
        let patterns = match right {
            Right::Configure => &self.configure,
            Right::Write => &self.write,
            Right::Read => &self.read,
        };
        patterns.iter().any(|pattern| matches(pattern, name))
    }
}

impl AmqpSession {
    /// Refuses what the user may not do with a queue.
    pub(super) fn demand_queue(&self, right: Right, name: &str) -> Result<(), Fault> {
        self.demand(right, "queue", name)
    }

    /// Refuses what the user may not do with an exchange.
    pub(super) fn demand_exchange(&self, right: Right, name: &str) -> Result<(), Fault> {
        self.demand(right, "exchange", if name.is_empty() { DEFAULT_NAME } else { name })
    }

    fn demand(&self, right: Right, noun: &str, name: &str) -> Result<(), Fault> {
        let is_allowed = match self.granted {
            Granted::Everything => true,
            Granted::Nothing => false,
            Granted::Entry(place) => {
                self.settings.permissions.get(place).is_some_and(|entry| entry.allows(right, name))
            }
        };
        if is_allowed {
            return Ok(());
        }
        let (host, user) = (&self.virtual_host, &self.user);
        let text = format!("access to {noun} '{name}' in vhost '{host}' refused for user '{user}'");
        Err(Fault::new(code::ACCESS_REFUSED, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_and_everything_else_for_itself() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "work"),
            ("work", "work"),
            ("work.*", "work."),
            ("work.*", "work.a.b"),
            ("*.work", "a.work"),
            ("a*c*e", "abcde"),
            ("a*c*e", "ace"),
            ("a**a", "aa"),
            ("", ""),
            ("ab*ba", "abba"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("work", "works"),
            ("work.*", "work"),
            ("*.work", "a.works"),
            ("a*c*e", "aec"),
            ("", "a"),
            ("ab*ba", "aba"),
            ("a**a", "a"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn the_first_entry_of_a_user_counts() {
        let entry = |user: &str| Permission {
            user: user.into(),
            configure: Vec::new(),
            write: vec!["amq.topic".into()],
            read: vec!["*".into()],
        };
        let entries = [entry("line-7"), entry("line-*")];
        assert_eq!(Granted::to("line-7", &entries), Granted::Entry(0));
        assert_eq!(Granted::to("line-8", &entries), Granted::Entry(1));
        assert_eq!(Granted::to("guest", &entries), Granted::Nothing);
        assert_eq!(Granted::to("guest", &[]), Granted::Everything);
        assert!(entries[0].allows(Right::Write, "amq.topic") && entries[0].allows(Right::Read, "q"));
        assert!(!entries[0].allows(Right::Configure, "q") && !entries[0].allows(Right::Write, "q"));
    }
}
