//! Looking into a store that no broker runs on: its file, a partition, or the image of a card.
//!
//! Nothing is configured and nothing is written. The sizes are in the headers of the segments, and
//! how much memory the tables need is found by trying:
//! ```text
//! find     which bytes of the image are the store       the image of a card has more than that
//! mount    with small tables; those the store does not fit into grow fourfold, and again
//! visit    the broker over the store, read-only
//! ```
//! `check` gathers what is to be told of a store and its damage, `gaps` what was in damaged bytes, `progress` shows how far it is, and
//! `lines` shows messages, `text` spells times and bytes for people.
//!
//! Limits: the memory that the machine has free.

pub mod check;
mod find;
mod gaps;
pub mod lines;
pub mod progress;
pub mod text;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::broker::{Broker, Mounted, Settings, Storage};
use crate::flash::image::{Image, ImageError, ImageFlash};
use crate::limits::Limits;
use crate::log::{MountError, RestoreError, SegmentFacts};

use super::config::Size;
use super::errors::Fatal;
use super::memory::Tables;
use super::store::{holder, random};
use find::{Found, NotFound};
use progress::Progress;

/// A broker that only looks.
pub type ImageBroker<'t> = Broker<'t, ImageFlash>;

/// A store that was found.
pub struct Opened {
    path: PathBuf,
    image: Image,
    found: Found,
}

/// Finds the store in a file or device.
pub fn open(path: &Path, progress: &Rc<Progress>) -> Result<Opened, Fatal> {
    let mut image = Image::open(path).map_err(|error| unopened(path, &error))?;
    let told = Rc::clone(progress);
    image.set_watcher(Rc::new(move |bytes| told.read(bytes)));
    let found = find::find(&image, progress).map_err(|error| unfound(path, error))?;
    Ok(Opened { path: path.to_owned(), image, found })
}

impl Opened {
    fn device(&self) -> ImageFlash {
        self.image.device(self.found.begin, self.found.geometry)
    }

    /// Mounts the store, reading only, and shows it.
    pub fn mount<R>(&self, visit: impl FnOnce(&mut ImageBroker<'_>, &Mounted) -> R) -> Result<R, Fatal> {
        let geometry = self.found.geometry;
        let mut limits = first_limits(geometry.segment_size);
        let mut attempts = Attempts::default();
        loop {
            self.check_memory(&limits)?;
            let mut tables = Tables::new(&limits, geometry);
            let storage = Storage { max_record: self.max_record(), ..tables.storage() };
            let settings = Settings { seed: random(), read_only: true, ..Settings::default() };
            match Broker::mount(self.device(), storage, settings) {
                // A full table of identities forgets the oldest instead of refusing one.
                Ok((broker, _)) if broker.dedup_info().taken == limits.dedup => grow(&mut limits, "dedup"),
                Ok((mut broker, mounted)) => return Ok(visit(&mut broker, &mounted)),
                Err(MountError::Refused(at, RestoreError::Limit(name))) if attempts.may_help(at.0, name) => {
                    grow(&mut limits, name);
                }
                Err(error) => return Err(self.unmounted(error)),
            }
        }
    }

    /// The largest record that a log of these sizes can have been told to take.
    fn max_record(&self) -> u32 {
        let geometry = self.found.geometry;
        let unit = geometry.write_unit;
        let ends = HEADER_BYTES.next_multiple_of(unit) + FOOTER_BYTES.next_multiple_of(unit);
        geometry.segment_size.saturating_sub(ends + crate::log::RECORD_OVERHEAD as u32)
    }

    fn check_memory(&self, limits: &Limits) -> Result<(), Fatal> {
        let needed = limits.total_bytes(self.found.geometry);
        match free_memory() {
            Some(free) if needed > free => Err(Fatal(format!(
                "{} needs at least {} of memory to be looked into, and {} are free; use a larger machine",
                self.path.display(),
                Size(needed).rounded(),
                Size(free).rounded()
            ))),
            _ => Ok(()),
        }
    }

    /// What the header of every segment says, by place on the device, and how many cannot be read.
    fn segments(&self) -> (Vec<Option<SegmentFacts>>, u32) {
        find::segments(&self.image, &self.found)
    }

    fn unmounted(&self, error: MountError) -> Fatal {
        let path = self.path.display();
        Fatal(match error {
            MountError::NewerVersion { found } => newer(&self.path, found),
            MountError::Refused(at, RestoreError::Malformed) => format!(
                "{path} has a record at {at} that this version does not know; use the version that wrote it"
            ),
            MountError::Refused(at, RestoreError::Limit(name)) => {
                format!("{path} has a record at {at} that fits no table of {name}; it contradicts others")
            }
            MountError::WrongGeometry { found } => format!(
                "{path} begins with what an earlier store with segments of {} left behind; it cannot be read",
                Size::from(found.segment_size).exact()
            ),
            MountError::Medium(_) => {
                format!("{path} cannot be read; copy what can be read of the medium first")
            }
            MountError::NotAStore | MountError::Unusable | MountError::StorageTooSmall(_) => {
                format!("{path} holds too little of a store to be read")
            }
        })
    }
}

/// Bytes of a segment's header.
const HEADER_BYTES: u32 = 60;
/// Bytes of a footer that describes one record.
const FOOTER_BYTES: u32 = 32 + 9 + crate::log::DIGEST_MAX as u32;

/// What a mount was refused for.
#[derive(Default)]
struct Attempts {
    last: Option<(u64, &'static str)>,
    count: u32,
}

impl Attempts {
    /// One record is refused for one table a few times at most, if a larger table helps.
    fn may_help(&mut self, at: u64, name: &'static str) -> bool {
        self.count = if self.last == Some((at, name)) { self.count + 1 } else { 0 };
        self.last = Some((at, name));
        self.count < 8
    }
}

fn first_limits(segment_size: u32) -> Limits {
    Limits {
        queues: 1024,
        entries: 1 << 16,
        in_flight: 1,
        consumers: 1,
        exchanges: 64,
        bindings: 2048,
        nodes: 4096,
        text_bytes: 128 << 10,
        dedup: 4096,
        held: 1024,
        producers: 256,
        retained: 4096,
        max_message_bytes: segment_size,
        tail_bytes: segment_size,
        index_bytes: (segment_size / 8).max(2048),
        windows: 2,
    }
}

/// Makes the table that was too small four times as large, and what may be meant by its name as well.
fn grow(limits: &mut Limits, name: &str) {
    let more = |limit: &mut u32| *limit = limit.saturating_mul(4);
    let id_more = |limit: &mut u32| *limit = limit.saturating_mul(4).min(u32::from(u16::MAX));
    match name {
        "entries" => more(&mut limits.entries),
        "producers" => more(&mut limits.producers),
        "retained" => more(&mut limits.retained),
        "dedup" => more(&mut limits.dedup),
        "queues" => id_more(&mut limits.queues),
        "text_bytes" => more(&mut limits.text_bytes),
        "held" => {
            more(&mut limits.held);
            id_more(&mut limits.queues);
        }
        // The names of exchanges are a part of all text; a binding needs something of every table.
        "exchanges" => {
            id_more(&mut limits.exchanges);
            more(&mut limits.text_bytes);
        }
        _ => {
            for limit in [&mut limits.bindings, &mut limits.nodes, &mut limits.text_bytes] {
                more(limit);
            }
            id_more(&mut limits.exchanges);
            id_more(&mut limits.queues);
        }
    }
}

/// Memory that programs can still get, as the kernel counts it.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().split(' ').next()?.parse().ok()?;
    kib.checked_mul(1024)
}

fn unopened(path: &Path, error: &ImageError) -> Fatal {
    let name = path.display();
    Fatal(match error {
        ImageError::InUse => {
            let holder = holder(path);
            format!("a broker runs on {name}{holder}; ask it with `forebay status`, or stop it first")
        }
        ImageError::Unfit => format!("{name} is not a file or a device; copy the store into a file first"),
        ImageError::Io(error) => match error.kind() {
            ErrorKind::NotFound => format!("{name} is not there"),
            ErrorKind::PermissionDenied => format!("no permission to read {name}"),
            _ => format!("cannot read {name}: {error}"),
        },
    })
}

fn unfound(path: &Path, error: NotFound) -> Fatal {
    let name = path.display();
    match error {
        NotFound::Empty => Fatal(format!("{name} is empty; there is no store in it")),
        NotFound::Nothing => Fatal(format!("{name} is not a store, nor is there one in it")),
        NotFound::Newer(version) => Fatal(newer(path, version)),
    }
}

fn newer(path: &Path, version: u8) -> String {
    format!("{} was written by a newer forebay (format {version}); use that one", path.display())
}
