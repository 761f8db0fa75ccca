//! Messages as lines: for people as `cat` and `list` print them, for programs as members of an object.
//! ```text
//! queue#offset  time  state  key  {headers}  body
//! ```
//! Whatever a message holds, it stays in its line and does not command the terminal.

use super::text::{headers, iso, plain, unix_ms};
use crate::command::{Content, Grade, Message, Standee, Standing};
use crate::gateway::json::{self, Object};
use crate::log::ReadError;
use crate::model::headers::{Headers, Value};
use crate::model::key::{Form, Key};
use crate::units::Millis;

/// A message of a queue.
pub fn standee_line(queue: &str, standee: &Standee<'_>, now: Millis) -> String {
    let expires = standee.content.map_or(Millis::NEVER, |content| content.expires);
    line(&label(queue, standee), &state(standee, expires, now), &standee.content)
}

/// Names a message: its queue and its offset there.
pub fn label(queue: &str, standee: &Standee<'_>) -> String {
    format!("{}#{}", plain(queue.as_bytes()), standee.offset)
}

/// A retained value.
pub fn value_line(content: &Result<Content<'_>, ReadError>, now: Millis) -> String {
    let expires = content.map_or(Millis::NEVER, |content| content.expires);
    line("retained", &format!("kept{}", until(expires, now)), content)
}

fn line(label: &str, state: &str, content: &Result<Content<'_>, ReadError>) -> String {
    let Ok(content) = content else { return format!("{label}  damaged") };
    let message = &content.message;
    let mut out = format!("{label}  {}  {state}  {}", iso(content.published), plain(message.key.text));
    for part in [headers(message.headers), plain(message.body)] {
        if !part.is_empty() {
            out.push_str("  ");
            out.push_str(&part);
        }
    }
    out
}

fn state(standee: &Standee<'_>, expires: Millis, now: Millis) -> String {
    let mut out = match standee.standing {
        Standing::Delayed(time) if time > now => format!("delayed until {}", iso(time)),
        Standing::InFlight => "in flight".to_string(),
        _ if standee.received => "received, not released".to_string(),
        _ => "ready".to_string(),
    };
    match standee.deliveries {
        0 if standee.redelivered => out.push_str(", perhaps delivered"),
        0 => {}
        count => out.push_str(&format!(", delivered {count} times")),
    }
    if standee.priority > 0 {
        out.push_str(&format!(", priority {}", standee.priority));
    }
    out.push_str(&until(expires, now));
    out
}

fn until(expires: Millis, now: Millis) -> String {
    match expires {
        Millis::NEVER => String::new(),
        past if past <= now => ", expired".to_string(),
        time => format!(", expires {}", iso(time)),
    }
}

/// An object of a type.
pub fn typed(name: &str) -> Object {
    Object::new().text("type", name)
}

/// A message of a queue as `export` writes it, or that it cannot be read.
pub fn standee_object(queue: &str, standee: &Standee<'_>) -> Object {
    let begin = |name: &str| typed(name).text("queue", queue).member("offset", standee.offset);
    let Ok(content) = &standee.content else { return begin("unreadable") };
    let mut line = timed(begin("message"), content);
    match standee.standing {
        Standing::Delayed(until) if until > content.published => {
            line = line.member("ready_ms", unix_ms(until))
        }
        Standing::InFlight => line = line.member("in_flight", true),
        _ => {}
    }
    line = line
        .member("priority", standee.priority)
        .text("grade", grade(standee.grade))
        .member("deliveries", standee.deliveries)
        .member("redelivered", standee.redelivered)
        .member("received", standee.received);
    worded(line, &content.message)
}

/// A key and its spelling.
pub fn keyed(line: Object, name: &str, key: Key<'_>) -> Object {
    let form = match key.form {
        Form::Dots => "dots",
        Form::Slashes => "slashes",
    };
    line.bytes(name, key.text).text(&format!("{name}_form"), form)
}

/// How surely, in a word.
pub fn grade(grade: Grade) -> &'static str {
    match grade {
        Grade::AtMostOnce => "at-most-once",
        Grade::AtLeastOnce => "at-least-once",
        Grade::ExactlyOnce => "exactly-once",
    }
}

/// When it was published and when it ends.
pub fn timed(line: Object, content: &Content<'_>) -> Object {
    let mut line = line.member("published_ms", unix_ms(content.published));
    if let Some(ttl_ms) = content.ttl_ms {
        line = line.member("ttl_ms", ttl_ms);
    }
    if content.expires < Millis::NEVER {
        line = line.member("expires_ms", unix_ms(content.expires));
    }
    line
}

/// Key, headers and body.
pub fn worded(line: Object, message: &Message<'_>) -> Object {
    headed(keyed(line, "key", message.key), "headers", message.headers).bytes("body", message.body)
}

/// Headers as a list, since a name may stand there twice; nothing if there are none.
pub fn headed(line: Object, name: &str, block: &[u8]) -> Object {
    if block.is_empty() {
        return line;
    }
    let all: Result<Vec<_>, _> = Headers::new(block).collect();
    match all {
        Ok(headers) => {
            let items = headers.iter().map(|header| header_json(header.name, &header.value));
            line.member(name, json::list(items))
        }
        // It was checked when it came in; what cannot be taken apart is handed on as it is.
        Err(_) => line.bytes(&format!("{name}_block"), block),
    }
}

fn header_json(name: &str, value: &Value<'_>) -> String {
    let line = Object::new().text("name", name);
    let line = match *value {
        Value::Nil => line.text("type", "nil"),
        Value::Bool(truth) => line.text("type", "bool").member("value", truth),
        Value::Int(number) => line.text("type", "int").member("value", number),
        Value::Float(number) if number.is_finite() => {
            line.text("type", "float").member("value", format_args!("{number:?}"))
        }
        Value::Float(number) => line.text("type", "float").text("value", &number.to_string()),
        Value::Text(text) => line.text("type", "text").text("value", text),
        Value::Bytes(bytes) => line.text("type", "bytes").bytes("value", bytes),
        Value::Time(time_ms) => line.text("type", "time").member("value", time_ms),
    };
    line.finish()
}
