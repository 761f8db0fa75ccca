//! The store's file: found or made, with an answer to everything that can be wrong with it.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use crate::broker::{Broker, Mounted, Settings};
use crate::flash::file::{FileError, FileFlash, OpenOptions};
use crate::log::{probe, FormatError, Log, MountError, RestoreError};
use crate::units::Millis;

use super::config::{Config, Origin, Size, WRITE_UNIT};
use super::errors::Fatal;
use super::memory;

/// Bytes of a file that are looked at to find its sizes.
const PROBE_BYTES: usize = 64;

/// Smallest segment of a store in a file, in bytes.
const SEGMENT_MIN: usize = 4096;

/// A broker on its file.
pub type FileBroker = Broker<'static, FileFlash>;

/// Takes over the sizes of a store that is there already: they were fixed when it was made.
pub fn adopt_sizes(config: &mut Config) {
    let Some((size, segment_size)) = found_sizes(&config.store.path) else { return };
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

/// Size and segment size of the store in a file, if there is one.
fn found_sizes(path: &Path) -> Option<(Size, Size)> {
    let file = File::open(path).ok()?;
    let size = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    let mut bytes = [0; PROBE_BYTES];
    // The first header is at the beginning, unless that segment was being erased.
    for place in (0..size).step_by(SEGMENT_MIN) {
        file.read_exact_at(&mut bytes, place).ok()?;
        if let Some(geometry) = probe(&bytes) {
            return Some((Size(size), Size::from(geometry.segment_size)));
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
    if is_blank {
        let mut scratch = [0; WRITE_UNIT as usize];
        let salt = random() as u32;
        Log::format(&mut file, salt, Millis(0), &mut scratch).map_err(|error| unmade(path, error))?;
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
        FileError::InUse(_) => Fatal(format!("{error}{}", holder(path))),
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

fn unmade(path: &Path, error: FormatError) -> Fatal {
    match error {
        FormatError::Medium(_) => Fatal(format!("cannot write {}; check the medium", path.display())),
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
        MountError::Medium(_) => format!("{path} cannot be read; check the medium"),
    })
}
