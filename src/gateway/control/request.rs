//! What the control socket is asked, and how an answer ends.
//! ```text
//! status text|json
//! list QUEUE any|ready|in-flight|delayed FROM COUNT text|json      COUNT 0 is all of them
//! cancel QUEUE OFFSET...
//! ```
//! One line, its words a space apart. A queue may have any name: what is neither a letter, a digit nor one of
//! `-_.~` is `%` and two hex digits. An answer is lines, of which only the last begins with a NUL: behind it
//! `done`, or what went wrong. An answer without that line is not whole.

use crate::command::Which;
use crate::units::Offset;

/// Longest request, without its line end: room for any name and [`OFFSETS_MAX`] offsets.
pub const LINE_MAX: usize = 4096;

/// Most messages that are cancelled with one request.
pub const OFFSETS_MAX: usize = 128;

/// Begins the last line of an answer.
pub const LAST: u8 = 0;

/// The rest of that line if all was done.
pub const DONE: &str = "done";

/// A question or an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// How everything is.
    Status {
        /// For programs.
        is_json: bool,
    },
    /// Which messages there are.
    List(List),
    /// Remove messages.
    Cancel {
        /// Of this queue.
        queue: String,
        /// At these offsets.
        offsets: Vec<Offset>,
    },
}

/// Which messages are to be listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Those of this queue.
    pub queue: String,
    /// That stand so.
    pub which: Which,
    /// From this offset on.
    pub from: Offset,
    /// So many at most; 0 is all of them.
    pub count: u64,
    /// For programs.
    pub is_json: bool,
}

/// The words for what messages are asked for.
const WHICH: [(&str, Which); 4] = [
    ("any", Which::Any),
    ("ready", Which::Ready),
    ("in-flight", Which::InFlight),
    ("delayed", Which::Delayed),
];

/// The words for how they are shown.
const FORMS: [(&str, bool); 2] = [("text", false), ("json", true)];

impl Request {
    /// The request as a line, with its end.
    pub fn line(&self) -> String {
        let form = |is_json: bool| word(&FORMS, is_json);
        match self {
            Request::Status { is_json } => format!("status {}\n", form(*is_json)),
            Request::List(List { queue, which, from, count, is_json }) => {
                let (queue, which, form) = (encoded(queue), word(&WHICH, *which), form(*is_json));
                format!("list {queue} {which} {from} {count} {form}\n")
            }
            Request::Cancel { queue, offsets } => {
                let offsets: String = offsets.iter().map(|offset| format!(" {offset}")).collect();
                format!("cancel {}{offsets}\n", encoded(queue))
            }
        }
    }

    /// Understands a line without its end.
    pub fn parse(line: &[u8]) -> Option<Request> {
        let words: Vec<&str> = std::str::from_utf8(line).ok()?.split(' ').collect();
        match *words.as_slice() {
            ["status", form] => Some(Request::Status { is_json: meaning(&FORMS, form)? }),
            ["list", queue, which, from, count, form] => Some(Request::List(List {
                queue: decoded(queue)?,
                which: meaning(&WHICH, which)?,
                from: Offset(from.parse().ok()?),
                count: count.parse().ok()?,
                is_json: meaning(&FORMS, form)?,
            })),
            ["cancel", queue, ref offsets @ ..] if (1..=OFFSETS_MAX).contains(&offsets.len()) => {
                let offsets = offsets.iter().map(|offset| Some(Offset(offset.parse().ok()?)));
                Some(Request::Cancel { queue: decoded(queue)?, offsets: offsets.collect::<Option<_>>()? })
            }
            _ => None,
        }
    }

    /// The same in pieces that each fit a line.
    pub fn pieces(&self) -> Vec<Request> {
        match self {
            Request::Cancel { queue, offsets } => {
                let pieces = offsets.chunks(OFFSETS_MAX);
                pieces.map(|some| Request::Cancel { queue: queue.clone(), offsets: some.to_vec() }).collect()
            }
            other => vec![other.clone()],
        }
    }
}

fn word<T: PartialEq>(words: &[(&'static str, T)], meaning: T) -> &'static str {
    words.iter().find(|(_, other)| *other == meaning).map_or("", |(word, _)| word)
}

fn meaning<T: Copy>(words: &[(&str, T)], word: &str) -> Option<T> {
    words.iter().find(|(other, _)| *other == word).map(|(_, meaning)| *meaning)
}

fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let letters = name.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    letters.collect()
}

fn decoded(word: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = word.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_understood_as_it_was_meant_whatever_the_queue_is_called() {
        let longest = "\u{10ffff}".repeat(63) + "\u{20}\n%";
        for queue in ["work", "", " ", "a b", "%", "%41", "line\nend", "grün/°C", "\0", &longest] {
            let queue = queue.to_string();
            let list = |which, is_json| {
                let (from, count) = (Offset(u64::MAX), 7);
                Request::List(List { queue: queue.clone(), which, from, count, is_json })
            };
            let offsets = vec![Offset(u64::MAX); OFFSETS_MAX];
            for request in [
                Request::Status { is_json: true },
                Request::Status { is_json: false },
                list(Which::Any, true),
                list(Which::Ready, false),
                list(Which::InFlight, false),
                list(Which::Delayed, true),
                Request::Cancel { queue: queue.clone(), offsets },
            ] {
                let line = request.line();
                let bare = line.strip_suffix('\n').unwrap();
                assert!(bare.len() <= LINE_MAX && !bare.contains('\n'), "{line:?}");
                assert_eq!(Request::parse(bare.as_bytes()), Some(request), "{line:?}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_not_understood() {
        for line in [
            "",
            "status",
            "status xml",
            "status text ",
            " status text",
            "list work any 0 0",
            "list work some 0 0 text",
            "list work any -1 0 text",
            "list work any 0 x text",
            "list %4 any 0 0 text",
            "list %zz any 0 0 text",
            "list %ff any 0 0 text",
            "cancel work",
            "cancel work ",
            "cancel work 1  2",
            "cancel work 18446744073709551616",
            "purge work",
        ] {
            assert_eq!(Request::parse(line.as_bytes()), None, "{line:?}");
        }
        assert_eq!(Request::parse(b"status text\xff"), None);
        let many = format!("cancel work{}", " 1".repeat(OFFSETS_MAX + 1));
        assert_eq!(Request::parse(many.as_bytes()), None);
    }

    #[test]
    fn many_offsets_go_in_pieces() {
        let offsets: Vec<Offset> = (0..300).map(Offset).collect();
        let pieces = Request::Cancel { queue: "work".into(), offsets: offsets.clone() }.pieces();
        let sent = pieces.iter().flat_map(|piece| match piece {
            Request::Cancel { offsets, .. } => offsets.clone(),
            other => panic!("{other:?}"),
        });
        assert_eq!((pieces.len(), sent.collect::<Vec<_>>()), (3, offsets));
    }
}
