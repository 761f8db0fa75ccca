//! The command line: words to an [`Invocation`], or a [`Misuse`] that says what was meant perhaps.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;
use lexopt::{Arg, Parser};

mod ask;
mod look;
mod torture;

use super::help;
use crate::gateway::config::{Address, Config, ConfigError};
use crate::gateway::control::request::Request;
use crate::gateway::errors::Fatal;

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// Run the broker.
    Serve(Config),
    /// Print what a configuration takes.
    Plan(Config),
    /// Print the effective configuration.
    Show(Config),
    /// Ask the broker that runs on the store of a configuration.
    Ask(Config, Request),
    /// Publish messages.
    Publish(Publish),
    /// Print messages.
    Subscribe(Subscribe),
    /// Check a store.
    Fsck(Fsck),
    /// Print the messages of a store.
    Cat(Cat),
    /// Print everything in a store.
    Export(Export),
    /// Cut the power.
    Torture(Torture),
    /// Print a text.
    Text(String),
}

/// `forebay torture`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Torture {
    /// Only this campaign.
    pub campaign: Option<&'static str>,
    /// End after about so many cuts.
    pub cuts: Option<u64>,
    /// What is random follows from it.
    pub seed: Option<u64>,
    /// Threads.
    pub threads: Option<usize>,
    /// Only this case.
    pub case: Option<u64>,
    /// Only this cut.
    pub cut: Option<u64>,
    /// Only this second cut.
    pub second: Option<u64>,
    /// On a file in this directory.
    pub on: Option<PathBuf>,
}

/// `forebay fsck`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fsck {
    /// The store, or the image of a card that holds one.
    pub store: PathBuf,
    /// As JSON.
    pub is_json: bool,
    /// Show how far it is even if standard error is no terminal.
    pub progress: bool,
}

/// `forebay cat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cat {
    /// The store, or the image of a card that holds one.
    pub store: PathBuf,
    /// Names of queues; all of them if there are none.
    pub queues: Vec<String>,
    /// The first offset of each.
    pub from: u64,
    /// End after this many messages; 0 is never.
    pub count: u64,
    /// Print bodies only.
    pub raw: bool,
    /// Print retained values instead.
    pub retained: bool,
}

/// `forebay export`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The store, or the image of a card that holds one.
    pub store: PathBuf,
}

/// `forebay publish`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Which broker.
    pub to: Address,
    /// The topic.
    pub topic: String,
    /// 0 to 2.
    pub qos: u8,
    /// Keep it as the last value of its topic.
    pub retain: bool,
    /// The message; none for one a line of standard input.
    pub message: Option<String>,
}

/// `forebay subscribe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Which broker.
    pub to: Address,
    /// The topic filters.
    pub filters: Vec<String>,
    /// 0 to 2.
    pub qos: u8,
    /// Name of the session.
    pub client: Option<String>,
    /// Keep the session when the program ends.
    pub persistent: bool,
    /// End after this many messages; 0 is never.
    pub count: u64,
    /// Print the topic before the message.
    pub verbose: bool,
}

/// Why the words make no sense, or what they ask for cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// The words; exit code 2.
    Usage(String),
    /// What they name; exit code 1.
    Fatal(Fatal),
}

impl From<lexopt::Error> for Misuse {
    fn from(error: lexopt::Error) -> Misuse {
        Misuse::Usage(error.to_string())
    }
}

fn usage<T>(text: impl Into<String>) -> Result<T, Misuse> {
    Err(Misuse::Usage(text.into()))
}

/// Flags that stand for a key of the configuration.
const KEYS: [(&str, &str); 8] = [
    ("listen", "mqtt.listen"),
    ("amqp", "amqp.listen"),
    ("wire", "wire.listen"),
    ("store", "store.path"),
    ("store-size", "store.size"),
    ("segment-size", "store.segment_size"),
    ("memory", "memory.total"),
    ("log", "log.level"),
];

/// Understands the words after the program's name.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Invocation, Misuse> {
    let mut parser = Parser::from_args(words);
    let mut given = Given::default();
    let mut command = None;
    while let Some(arg) = parser.next()? {
        if let Some(flag) = Flag::of(&arg) {
            given.take(flag, &mut parser)?;
            continue;
        }
        match arg {
            Long("help") | Short('h') => return text(command.as_deref()),
            Long("version") | Short('V') => {
                return Ok(Invocation::Text(format!("forebay {}\n", env!("CARGO_PKG_VERSION"))));
            }
            Value(word) if command.is_none() => {
                let word = word.string()?;
                match word.as_str() {
                    "status" => return ask::status(&mut parser, given),
                    "list" => return ask::list(&mut parser, given),
                    "cancel" => return ask::cancel(&mut parser, given),
                    "publish" => return publish(&mut parser, given),
                    "subscribe" => return subscribe(&mut parser, given),
                    "fsck" => return look::fsck(&mut parser, given),
                    "cat" => return look::cat(&mut parser, given),
                    "export" => return look::export(&mut parser, given),
                    "torture" => return torture::torture(&mut parser),
                    known if help::of(known).is_some() => command = Some(word),
                    unknown => return usage(help::unknown(unknown)),
                }
            }
            Value(word) if command.as_deref() == Some("help") => return text(Some(&word.string()?)),
            other => return Err(other.unexpected().into()),
        }
    }
    match command.as_deref() {
        None | Some("serve") => Ok(Invocation::Serve(given.config()?)),
        Some("plan") => Ok(Invocation::Plan(given.config()?)),
        Some("config") => Ok(Invocation::Show(given.config()?)),
        _ => text(None),
    }
}

fn text(command: Option<&str>) -> Result<Invocation, Misuse> {
    let name = command.unwrap_or("help");
    match help::of(name) {
        Some(text) => Ok(Invocation::Text(text.to_string())),
        None => usage(help::unknown(name)),
    }
}

/// Flags of the configuration, in the order they were given.
#[derive(Default)]
struct Given {
    file: Option<PathBuf>,
    values: Vec<(String, String)>,
}

/// A flag of the configuration.
#[derive(Clone, Copy)]
enum Flag {
    File,
    Set,
    Key(&'static str),
}

impl Flag {
    fn of(arg: &Arg<'_>) -> Option<Flag> {
        match arg {
            Long("config") => Some(Flag::File),
            Long("set") => Some(Flag::Set),
            Short('l') => Some(Flag::Key("mqtt.listen")),
            Short('s') => Some(Flag::Key("store.path")),
            Long(name) => KEYS.iter().find(|(flag, _)| flag == name).map(|(_, key)| Flag::Key(key)),
            _ => None,
        }
    }
}

impl Given {
    /// Takes a flag of the configuration with its value.
    fn take(&mut self, flag: Flag, parser: &mut Parser) -> Result<(), Misuse> {
        let key = match flag {
            Flag::File => {
                self.file = Some(parser.value()?.into());
                return Ok(());
            }
            Flag::Set => {
                let pair = parser.value()?.string()?;
                let Some((key, value)) = pair.split_once('=') else {
                    return usage(format!(
                        "--set needs KEY=VALUE, such as --set limits.queues=256, not {pair}"
                    ));
                };
                self.values.push((key.trim().to_string(), value.trim().to_string()));
                return Ok(());
            }
            Flag::Key(key) => key,
        };
        let value = parser.value()?.string()?;
        // Where to listen may be repeated; every other flag counts by its last value.
        match self.values.iter_mut().find(|(other, _)| other == key) {
            Some((_, list)) if key.ends_with(".listen") => *list = format!("{list},{value}"),
            _ => self.values.push((key.to_string(), value)),
        }
        Ok(())
    }

    fn config(&self) -> Result<Config, Misuse> {
        let mut config = match &self.file {
            Some(file) => Config::from_file(file).map_err(|error| Misuse::Fatal(error.into()))?,
            None => Config::default(),
        };
        for (key, value) in &self.values {
            config.apply_flag(key, value).map_err(|ConfigError(text)| Misuse::Usage(text))?;
        }
        Ok(config)
    }
}

/// Where the client goes: `--to`, or where the broker of this configuration listens.
fn target(to: Option<String>, given: &Given) -> Result<Address, Misuse> {
    match to {
        Some(text) => match Address::parse(&text) {
            Some(address) => Ok(address),
            None => usage(format!("--to needs HOST:PORT or unix:PATH, not {text}")),
        },
        None => match given.config()?.mqtt.listen.first() {
            Some(Address::Tcp(text)) => {
                Ok(Address::Tcp(text.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")))
            }
            Some(unix) => Ok(unix.clone()),
            None => usage("this configuration has no mqtt.listen; say where with --to HOST:PORT"),
        },
    }
}

fn qos(parser: &mut Parser) -> Result<u8, Misuse> {
    match parser.value()?.string()?.as_str() {
        "0" => Ok(0),
        "1" => Ok(1),
        "2" => Ok(2),
        other => usage(format!("--qos is 0, 1 or 2, not {other}")),
    }
}

fn publish(parser: &mut Parser, mut given: Given) -> Result<Invocation, Misuse> {
    let (mut to, mut topic, mut level, mut retain, mut message) = (None, None, 0, false, None);
    while let Some(arg) = parser.next()? {
        if let Some(flag) = Flag::of(&arg) {
            given.take(flag, parser)?;
            continue;
        }
        match arg {
            Long("help") | Short('h') => return text(Some("publish")),
            Long("to") => to = Some(parser.value()?.string()?),
            Long("topic") | Short('t') => topic = Some(parser.value()?.string()?),
            Long("qos") | Short('q') => level = qos(parser)?,
            Long("retain") | Short('r') => retain = true,
            Long("message") | Short('m') => message = Some(parser.value()?.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let Some(topic) = topic else { return usage("publish needs a topic: -t TOPIC") };
    if topic.is_empty() || topic.contains(['+', '#']) {
        return usage(format!("{topic:?} is no topic: messages go to one topic, without + and #"));
    }
    Ok(Invocation::Publish(Publish { to: target(to, &given)?, topic, qos: level, retain, message }))
}

fn subscribe(parser: &mut Parser, mut given: Given) -> Result<Invocation, Misuse> {
    let (mut to, mut level, mut client, mut persistent, mut verbose) = (None, 0, None, false, false);
    let (mut filters, mut count) = (Vec::new(), 0);
    while let Some(arg) = parser.next()? {
        if let Some(flag) = Flag::of(&arg) {
            given.take(flag, parser)?;
            continue;
        }
        match arg {
            Long("help") | Short('h') => return text(Some("subscribe")),
            Long("to") => to = Some(parser.value()?.string()?),
            Long("topic") | Short('t') => filters.push(parser.value()?.string()?),
            Long("qos") | Short('q') => level = qos(parser)?,
            Long("client") | Short('c') => client = Some(parser.value()?.string()?),
            Long("persistent") => persistent = true,
            Long("count") | Short('n') => count = parser.value()?.parse()?,
            Long("verbose") | Short('v') => verbose = true,
            other => return Err(other.unexpected().into()),
        }
    }
    if filters.is_empty() {
        return usage("subscribe needs a topic filter: -t FILTER");
    }
    if persistent && client.is_none() {
        return usage("--persistent needs a name for the session: -c ID");
    }
    let to = target(to, &given)?;
    Ok(Invocation::Subscribe(Subscribe { to, filters, qos: level, client, persistent, count, verbose }))
}
