//! Routing keys, in the form their protocol writes them.
//!
//! AMQP separates words with `.`, MQTT separates levels with `/`; one name space holds both
//! by swapping the two characters: the MQTT topic `plant/line.7` is the AMQP routing key
//! `plant.line/7`. Keys are stored as they came, with their form, and compared word by word
//! in the AMQP form, so that a message which stays within one protocol is never rewritten.

/// Which of the two spellings a key or a pattern is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Form {
    /// AMQP: words separated by `.`; `*` is one word, `#` is any number of words.
    #[default]
    Dots,
    /// MQTT: levels separated by `/`; `+` is one level, `#` (last) is any number of levels.
    Slashes,
}

impl Form {
    /// The byte between words.
    pub const fn separator(self) -> u8 {
        match self {
            Form::Dots => b'.',
            Form::Slashes => b'/',
        }
    }

    /// One byte of a word in the AMQP spelling.
    pub const fn canonical(self, byte: u8) -> u8 {
        match (self, byte) {
            (Form::Slashes, b'.') => b'/',
            (Form::Slashes, b'/') => b'.',
            _ => byte,
        }
    }
}

/// A routing key or topic, or a pattern over them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Key<'a> {
    /// The text as its protocol wrote it.
    pub text: &'a [u8],
    /// How it is spelled.
    pub form: Form,
}

impl<'a> Key<'a> {
    /// A key in the AMQP form.
    pub const fn dots(text: &'a [u8]) -> Key<'a> {
        Key { text, form: Form::Dots }
    }

    /// A key in the MQTT form.
    pub const fn slashes(text: &'a [u8]) -> Key<'a> {
        Key { text, form: Form::Slashes }
    }

    /// The words, in their own spelling; an empty key has one empty word.
    pub fn words(self) -> Words<'a> {
        Words { rest: Some(self.text), form: self.form }
    }

    /// The bytes in the AMQP spelling.
    pub fn canonical(self) -> impl Iterator<Item = u8> + Clone + 'a {
        self.text.iter().map(move |&byte| self.form.canonical(byte))
    }
}

/// The words of a key.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    rest: Option<&'a [u8]>,
    form: Form,
}

impl<'a> Words<'a> {
    /// No words.
    pub const NONE: Words<'static> = Words { rest: None, form: Form::Dots };

    /// How they are spelled.
    pub const fn form(&self) -> Form {
        self.form
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest?;
        let separator = self.form.separator();
        let size = text.iter().position(|&byte| byte == separator);
        let (word, rest) = text.split_at_checked(size.unwrap_or(text.len()))?;
        self.rest = rest.get(1..);
        Some(word)
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        if self.form == other.form {
            return self.text == other.text;
        }
        self.text.len() == other.text.len() && self.canonical().eq(other.canonical())
    }
}

impl Eq for Key<'_> {}
