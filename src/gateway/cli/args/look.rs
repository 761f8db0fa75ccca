//! The words of the commands that look into a store: `fsck`, `cat`, `export`.

use std::path::PathBuf;

use lexopt::prelude::*;
use lexopt::Parser;

use super::{text, usage, Cat, Export, Flag, Fsck, Given, Invocation, Misuse};

/// The store that was named, or that of the configuration.
fn store(named: Option<PathBuf>, given: &Given) -> Result<PathBuf, Misuse> {
    match named {
        Some(path) => Ok(path),
        None => Ok(given.config()?.store.path),
    }
}

pub(super) fn fsck(parser: &mut Parser, mut given: Given) -> Result<Invocation, Misuse> {
    let (mut named, mut is_json, mut progress) = (None, false, false);
    while let Some(arg) = parser.next()? {
        if let Some(flag) = Flag::of(&arg) {
            given.take(flag, parser)?;
            continue;
        }
        match arg {
            Long("help") | Short('h') => return text(Some("fsck")),
            Long("json") => is_json = true,
            Long("progress") => progress = true,
            Value(path) if named.is_none() => named = Some(path.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Invocation::Fsck(Fsck { store: store(named, &given)?, is_json, progress }))
}

pub(super) fn cat(parser: &mut Parser, mut given: Given) -> Result<Invocation, Misuse> {
    let (mut named, mut queues) = (None, Vec::new());
    let (mut from, mut count, mut raw, mut retained) = (0, 0, false, false);
    while let Some(arg) = parser.next()? {
        if let Some(flag) = Flag::of(&arg) {
            given.take(flag, parser)?;
            continue;
        }
        match arg {
            Long("help") | Short('h') => return text(Some("cat")),
            Long("queue") => queues.push(parser.value()?.string()?),
            Long("from") => from = parser.value()?.parse()?,
            Long("count") | Short('n') => count = parser.value()?.parse()?,
            Long("raw") => raw = true,
            Long("retained") => retained = true,
            Value(path) if named.is_none() => named = Some(path.into()),
            Value(queue) => queues.push(queue.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    if retained && (!queues.is_empty() || from > 0) {
        return usage("--retained prints retained values, which are in no queue and have no offset");
    }
    Ok(Invocation::Cat(Cat { store: store(named, &given)?, queues, from, count, raw, retained }))
}

pub(super) fn export(parser: &mut Parser, mut given: Given) -> Result<Invocation, Misuse> {
    let mut named = None;
    while let Some(arg) = parser.next()? {
        if let Some(flag) = Flag::of(&arg) {
            given.take(flag, parser)?;
            continue;
        }
        match arg {
            Long("help") | Short('h') => return text(Some("export")),
            Value(path) if named.is_none() => named = Some(path.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Invocation::Export(Export { store: store(named, &given)? }))
}
