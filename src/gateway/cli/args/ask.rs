//! The words of the commands that ask a running broker: `status`, `list`, `cancel`.

use lexopt::prelude::*;
use lexopt::Parser;

use super::{text, usage, Flag, Given, Invocation, Misuse};
use crate::command::Which;
use crate::gateway::control::request::{List, Request};
use crate::units::Offset;

pub(super) fn status(parser: &mut Parser, mut given: Given) -> Result<Invocation, Misuse> {
    let mut is_json = false;
    while let Some(arg) = parser.next()? {
        if let Some(flag) = Flag::of(&arg) {
            given.take(flag, parser)?;
            continue;
        }
        match arg {
            Long("help") | Short('h') => return text(Some("status")),
            Long("json") => is_json = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Invocation::Ask(given.config()?, Request::Status { is_json }))
}

pub(super) fn list(parser: &mut Parser, mut given: Given) -> Result<Invocation, Misuse> {
    let (mut queue, mut list) = (None, List::default());
    while let Some(arg) = parser.next()? {
        if let Some(flag) = Flag::of(&arg) {
            given.take(flag, parser)?;
            continue;
        }
        let which = match arg {
            Long("delayed") => Which::Delayed,
            Long("ready") => Which::Ready,
            Long("in-flight") => Which::InFlight,
            _ => Which::Any,
        };
        match arg {
            Long("help") | Short('h') => return text(Some("list")),
            Long("json") => list.is_json = true,
            Long("from") => list.from = Offset(parser.value()?.parse()?),
            Long("count") | Short('n') => list.count = parser.value()?.parse()?,
            Value(name) if queue.is_none() => queue = Some(name.string()?),
            _ if which != Which::Any && list.which == Which::Any => list.which = which,
            _ if which != Which::Any => return usage("list takes one of --delayed, --ready and --in-flight"),
            other => return Err(other.unexpected().into()),
        }
    }
    let Some(queue) = queue else { return usage("list needs a queue: forebay list QUEUE") };
    Ok(Invocation::Ask(given.config()?, Request::List(List { queue, ..list })))
}

pub(super) fn cancel(parser: &mut Parser, mut given: Given) -> Result<Invocation, Misuse> {
    let (mut queue, mut offsets) = (None, Vec::new());
    while let Some(arg) = parser.next()? {
        if let Some(flag) = Flag::of(&arg) {
            given.take(flag, parser)?;
            continue;
        }
        match arg {
            Long("help") | Short('h') => return text(Some("cancel")),
            Value(name) if queue.is_none() => queue = Some(name.string()?),
            Value(offset) => offsets.push(Offset(offset.parse()?)),
            other => return Err(other.unexpected().into()),
        }
    }
    match queue {
        Some(queue) if !offsets.is_empty() => {
            Ok(Invocation::Ask(given.config()?, Request::Cancel { queue, offsets }))
        }
        _ => usage(
            "cancel needs a queue and offsets, as `forebay list` shows them: forebay cancel QUEUE OFFSET",
        ),
    }
}
