//! Patterns: the words of keys, and whether a pattern matches a key.
//!
//! Both forms meet in one language of words. In the AMQP form `*` is any one word and `#` any
//! number of words, anywhere in the pattern; in the MQTT form `+` and `#` are. What is a wildcard
//! in one form is an ordinary word in the other: the MQTT level `*` matches only itself. Words
//! may be empty (`a//b` has three); only the empty text has no words at all, as RabbitMQ has it,
//! so that `#` matches the empty key and `*` does not.
//!
//! A filter in the MQTT form that begins with a wildcard does not match a key that begins with
//! `$`, whatever form the key is in (MQTT 5.0, 4.7.2); a pattern in the AMQP form matches these too.
//!
//! Limits: `words`, [`WORDS_MAX`] in a key or pattern.

use super::hash;
use super::key::{Form, Key, Words};

/// Most words in a key or a pattern.
pub const WORDS_MAX: usize = 128;

/// One word of a pattern.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// This word, in the spelling of this form.
    Word(&'a [u8], Form),
    /// Any one word.
    One,
    /// Any number of words, also none.
    Rest,
}

impl<'a> Step<'a> {
    /// The meaning of a word in a pattern.
    pub const fn of(word: &'a [u8], form: Form) -> Step<'a> {
        match (form, word) {
            (_, b"#") => Step::Rest,
            (Form::Dots, b"*") | (Form::Slashes, b"+") => Step::One,
            _ => Step::Word(word, form),
        }
    }

    /// Hash by which the step is found among its siblings; equal steps hash equal in any form.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(crate) fn hash(&self, seed: u64) -> u64 {
        match *self {
            Step::Word(word, form) => hash::hash_word(seed, word, form),
            Step::One => hash::mix(seed, 1),
            Step::Rest => hash::mix(seed, 2),
        }
    }

    fn accepts(&self, word: &[u8], form: Form) -> bool {
        match *self {
            Step::Word(text, own) if own == form => text == word,
            Step::Word(text, own) => Key { text, form: own } == Key { text: word, form },
            Step::One | Step::Rest => true,
        }
    }
}

/// The words of a key; the empty key has none.
pub fn words(key: Key<'_>) -> Words<'_> {
    if key.text.is_empty() {
        Words::NONE
    } else {
        key.words()
    }
}

/// The words of a pattern and what they mean.
#[cfg_attr(not(feature = "gateway"), inline(never))]
pub fn steps(pattern: Key<'_>) -> Steps<'_> {
    Steps { words: words(pattern) }
}

/// See [`steps`].
#[derive(Clone, Copy, Debug)]
pub struct Steps<'a> {
    words: Words<'a>,
}

impl<'a> Iterator for Steps<'a> {
    type Item = Step<'a>;

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn next(&mut self) -> Option<Step<'a>> {
        let word = self.words.next()?;
        Some(Step::of(word, self.words.form()))
    }
}

/// A key or pattern has no more than [`WORDS_MAX`] words.
pub fn is_within_limit(key: Key<'_>) -> bool {
    let separator = key.form.separator();
    key.text.iter().filter(|&&byte| byte == separator).count() < WORDS_MAX
}

/// The pattern is not for keys that begin with `$`.
pub fn is_shy(pattern: Key<'_>) -> bool {
    pattern.form == Form::Slashes && matches!(steps(pattern).next(), Some(Step::One | Step::Rest))
}

/// The key is one that shy patterns leave out.
pub fn is_hidden(key: Key<'_>) -> bool {
    key.text.first() == Some(&b'$')
}

/// A pattern matches a key. Takes time by the product of their words at most.
pub fn matches(pattern: Key<'_>, key: Key<'_>) -> bool {
    if is_hidden(key) && is_shy(pattern) {
        return false;
    }
    let mut steps = steps(pattern);
    let mut words = words(key);
    // Where to go on when what follows the last `#` did not fit: one word further.
    let mut after_rest = steps;
    let mut longer = Words::NONE;
    loop {
        let here = words;
        match (steps.next(), words.next()) {
            (Some(Step::Rest), _) => {
                words = here;
                (after_rest, longer) = (steps, words);
            }
            (Some(step), Some(word)) if step.accepts(word, key.form) => {}
            (None, None) => return true,
            _ => {
                if longer.next().is_none() {
                    return false;
                }
                (steps, words) = (after_rest, longer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dots(pattern: &str, key: &str) -> bool {
        matches(Key::dots(pattern.as_bytes()), Key::dots(key.as_bytes()))
    }

    fn slashes(pattern: &str, key: &str) -> bool {
        matches(Key::slashes(pattern.as_bytes()), Key::slashes(key.as_bytes()))
    }

    #[test]
    fn amqp_patterns_match_as_amqp_has_it() {
        for (pattern, key, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("*", "", false),
            ("#", "", true),
            ("", "", true),
            ("", "a", false),
            ("a.#", "a", true),
            ("#.b", "b", true),
            ("#.b", "a.b.b", true),
            ("#.b", "a.b.c", false),
            ("a.#.b", "a.b", true),
            ("a.#.b", "a.x.b.y.b", true),
            ("a.#.b.#.c", "a.b.x.b.c", true),
            ("a.#.b.#.c", "a.c.b", false),
            ("#.*.#", "", false),
            ("#.*.#", "a", true),
            ("*.#.*", "a", false),
            ("a..b", "a..b", true),
            ("a.*.b", "a..b", true),
            ("a.+", "a.b", false),
            ("#", "$SYS", true),
        ] {
            assert_eq!(dots(pattern, key), expected, "{pattern:?} {key:?}");
        }
    }

    #[test]
    fn mqtt_filters_match_as_mqtt_has_it() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/uptime", false),
            ("+/uptime", "$SYS/uptime", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("$SYS/+", "$SYS/uptime", true),
            ("a/*", "a/b", false),
            ("a/*", "a/*", true),
        ] {
            assert_eq!(slashes(filter, topic), expected, "{filter:?} {topic:?}");
        }
    }

    #[test]
    fn forms_meet_by_swapping_their_separators() {
        assert!(matches(Key::slashes(b"plant/+/x.y"), Key::dots(b"plant.7.x/y")));
        assert!(matches(Key::dots(b"plant.*.x/y"), Key::slashes(b"plant/7/x.y")));
        assert!(!matches(Key::slashes(b"#"), Key::dots(b"$SYS.load")));
        assert!(matches(Key::dots(b"#"), Key::slashes(b"$SYS/load")));
    }

    #[test]
    fn words_are_counted_up_to_the_limit() {
        let text = [b'.'; WORDS_MAX];
        assert!(is_within_limit(Key::dots(&text[1..])));
        assert!(!is_within_limit(Key::dots(&text)));
        assert!(is_within_limit(Key::slashes(&text)));
        assert_eq!(words(Key::dots(&text[1..])).count(), WORDS_MAX);
    }
}
