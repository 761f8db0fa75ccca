//! The store's file: found or made, with an answer to everything that can be wrong with it.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::major;

use crate::broker::{Broker, Mounted, Settings};
use crate::flash::file::{Failure, FileError, FileFlash, OpenOptions};
use crate::flash::{FlashError, Geometry};
use crate::log::{identify, FormatError, Identity, Log, MountError, RestoreError};
use crate::model::entry::STORE_MAX;
use crate::units::Millis;

use super::config::{Config, Origin, Size, WRITE_UNIT};
use super::errors::Fatal;
use super::memory;

/// Bytes of a file that are looked at to find its sizes.
const PROBE_BYTES: usize = 64;

/// Smallest segment of a store in a file, in bytes.
const SEGMENT_MIN: usize = 4096;

/// Places that cannot be read before the search for the sizes of a store is given up.
const UNREAD_MAX: u32 = 16;

/// Bytes at the start of a block device in which a store's sizes are looked for: its first two segments at least.
const PROBED_BYTES: u64 = 128 << 20;

/// The system's number for block devices over raw flash.
const MTD_BLOCK_MAJOR: u32 = 31;

/// A broker on its file.
pub type FileBroker = Broker<'static, FileFlash>;

/// Takes over the sizes of a store that is there already: they were fixed when it was made. A new one on a block
/// device gets all of the device, unless somebody said otherwise.
pub fn adopt_sizes(config: &mut Config) {
    let path = &config.store.path;
    let Some(kind) = std::fs::metadata(path).ok().map(|found| found.file_type()) else { return };
    let is_block = kind.is_block_device();
    if !is_block && !kind.is_file() {
        return;
    }
    let Some((file, room)) = File::open(path).ok().and_then(|mut file| {
        // A block device has no length but an end.
        let room = file.seek(SeekFrom::End(0)).ok()?;
        Some((file, room))
    }) else {
        return;
    };
    let Some(geometry) = found_geometry(&file, room.min(if is_block { PROBED_BYTES } else { room })) else {
        if is_block && *config.origin("store.size") == Origin::Default {
            let rest = room.checked_rem(config.store.segment_size.0).unwrap_or(0);
            config.store.size = Size((room - rest).min(STORE_MAX));
        }
        return;
    };
    let segment_size = Size::from(geometry.segment_size);
    let size = Size(if is_block { segment_size.0 * u64::from(geometry.segment_count) } else { room });
    adopt(config, size, segment_size);
}

fn adopt(config: &mut Config, size: Size, segment_size: Size) {
    for (key, own, found) in [
        ("store.size", &mut config.store.size, size),
        ("store.segment_size", &mut config.store.segment_size, segment_size),
    ]
    .map(|(key, own, found)| (key, std::mem::replace(own, found), found))
    {
        if own != found && *config.origin(key) != Origin::Default {
            log::warn!(
                "{} is {}, but {} has {}: sizes are fixed when a store is made",
                config.place(key),
                own.exact(),
                config.store.path.display(),
                found.exact()
            );
        }
    }
}

/// The sizes of the store in a file, if there is one in its first bytes.
fn found_geometry(file: &File, size: u64) -> Option<Geometry> {
    let mut bytes = [0; PROBE_BYTES];
    let mut unread_count = 0;
    // The first header is at the beginning, unless that segment was being erased or is damaged.
    for place in (0..size).step_by(SEGMENT_MIN) {
        let is_read = file.read_exact_at(&mut bytes, place).is_ok();
        // Elsewhere than where it says it is, it may be a store that somebody sent as a message.
        match identify(&bytes).filter(|_| is_read) {
            Some(Identity::Segment(facts))
                if u64::from(facts.index) * u64::from(facts.geometry.segment_size) == place =>
            {
                return Some(facts.geometry);
            }
            _ => {}
        }
        unread_count += u32::from(!is_read);
        if unread_count > UNREAD_MAX {
            break;
        }
    }
    None
}

/// Opens the store of a configuration, or makes it, and mounts the broker on it.
pub fn open(config: &Config, wake: Arc<OwnedFd>) -> Result<(FileBroker, Mounted), Fatal> {
    let path = &config.store.path;
    let options = OpenOptions {
        size_bytes: config.store.size.0,
        segment_size: config.geometry().segment_size,
        write_unit: WRITE_UNIT,
    };
    let (mut file, is_blank) = FileFlash::open(path, options).map_err(|error| unopened(path, &error))?;
    warn_of_medium(path);
    if is_blank {
        let mut scratch = [0; WRITE_UNIT as usize];
        let salt = random() as u32;
        if let Err(error) = Log::format(&mut file, salt, Millis(0), &mut scratch) {
            let why = unmade(path, error, file.failure());
            file.discard(path);
            return Err(why);
        }
        log::info!("store: {} made, {}", path.display(), config.store.size.exact());
    }
    file.set_waker(Box::new(move || {
        // A full counter wakes as well as a written one.
        let _ = rustix::io::write(&wake, &1u64.to_ne_bytes());
    }));
    let storage = memory::set_aside(&config.capacities(), config.geometry());
    let settings = Settings {
        seed: random(),
        dedup_window_ms: config.store.dedup_window.0,
        ack_delay_ms: config.store.ack_delay.0,
        read_only: false,
    };
    let (broker, mounted) =
        Broker::mount(file, storage, settings).map_err(|error| unmounted(config, error))?;
    if !is_blank {
        tell(path, config.store.size, &mounted);
    }
    Ok((broker, mounted))
}

/// A block device over raw flash erases a whole block for every write, and what else is in that block is nowhere
/// while it does.
fn warn_of_medium(path: &Path) {
    let is_mtd = std::fs::metadata(path)
        .is_ok_and(|found| found.file_type().is_block_device() && major(found.rdev()) == MTD_BLOCK_MAJOR);
    if is_mtd {
        log::warn!(
            "store: {} is raw flash behind a block device, which rewrites whole blocks: a loss of power can take what was confirmed; a file on UBIFS is safe",
            path.display()
        );
    }
}

fn tell(path: &Path, size: Size, mounted: &Mounted) {
    let log = &mounted.log;
    let ending =
        if log.unclean { "it was not closed; nothing confirmed is lost" } else { "it was closed in order" };
    log::info!(
        "store: {}, {}, with {} queues and {} messages; {ending}",
        path.display(),
        size.exact(),
        mounted.queues,
        mounted.messages
    );
    if log.damages > 0 {
        log::error!(
            "store: {} places are damaged, the messages there are lost; check the medium",
            log.damages
        );
    }
}

/// A number nobody can foresee: the standard library's hashers are seeded by the system.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn unopened(path: &Path, error: &FileError) -> Fatal {
    match error {
        FileError::InUse(_) | FileError::Taken(_) => Fatal(format!("{error}{}", holder(path))),
        FileError::Io(_, io) => Fatal::file(path, io),
        other => Fatal(other.to_string()),
    }
}

/// Who holds the lock of a file, as far as the system tells.
pub fn holder(path: &Path) -> String {
    let inode = std::fs::metadata(path).map(|found| format!(":{}", found.ino())).unwrap_or_default();
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    // 1: FLOCK  ADVISORY  WRITE 4242 08:01:1234 0 EOF
    let mut pids = locks.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(4);
        let pid = words.next()?;
        words.next().filter(|place| place.ends_with(&inode)).map(|_| pid)
    });
    pids.next().map(|pid| format!(" (process {pid} has it)")).unwrap_or_default()
}

fn unmade(path: &Path, error: FormatError, failure: Option<Failure>) -> Fatal {
    match error {
        FormatError::Medium(_) => match failure {
            Some(failure) => Fatal::file(path, &failure.error()),
            None => Fatal(format!("cannot read {}; check the medium", path.display())),
        },
        _ => Fatal(
            "store.size and store.segment_size cannot hold a store: leave them at their defaults".into(),
        ),
    }
}

fn unmounted(config: &Config, error: MountError) -> Fatal {
    let path = config.store.path.display();
    Fatal(match error {
        MountError::NotAStore => {
            format!("{path} holds no store that can be read; name another file with --store, or move it away")
        }
        MountError::WrongGeometry { found } => format!(
            "{path} was made with segments of {}: use --segment-size {}",
            Size::from(found.segment_size).exact(),
            Size::from(found.segment_size).exact()
        ),
        MountError::NewerVersion { found } => {
            format!(
                "{path} was written by a newer forebay (format {found}); use that one, or another --store"
            )
        }
        MountError::Unusable => {
            "store.size and store.segment_size cannot hold a store: leave them at their defaults".to_string()
        }
        MountError::StorageTooSmall("windows") => {
            let key = config.place("limits.max_message_bytes");
            format!("{path} holds a message that is larger than {key} allows: raise it")
        }
        MountError::StorageTooSmall(name) => {
            format!("the limit for {name} is too small for any store: raise it")
        }
        MountError::Refused(_, RestoreError::Limit(name)) => {
            let key = format!("limits.{name}");
            format!("{path} holds more than {} allows: raise it", config.place(&key))
        }
        MountError::Refused(at, RestoreError::Malformed) => format!(
            "{path} has a record at {at} that this version does not know; use the version that wrote it"
        ),
        MountError::Medium(FlashError::ReadOnly) => format!(
            "{path} cannot be written: its file system is full or read-only; make room, or mount it for writing"
        ),
        MountError::Medium(_) => format!("{path} cannot be read or written; check the medium"),
    })
}
