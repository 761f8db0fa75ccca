//! Semihosting: what the firmware asks of the machine that QEMU runs on.
//!
//! A trap hands a number and a block of words to QEMU, which answers in a register (Arm, "Semihosting for
//! AArch32 and AArch64", version 3). Each call here fills in the block that its number wants, with addresses
//! of memory that outlives the call, and checks what comes back.
//!
//! Limits: [`LINE_MAX`] bytes of command line.

use core::ffi::CStr;

use cortex_m_semihosting::{debug, nr, syscall};

/// Bytes of the command line, its end included.
pub const LINE_MAX: usize = 512;

/// The host did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostError;

/// An open file.
#[derive(Debug)]
pub struct File(usize);

/// How to open a file.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum Mode {
    /// It has to exist; read.
    Readable = nr::open::R_BINARY,
    /// It has to exist; read and write.
    Existing = nr::open::RW_BINARY,
    /// Made anew, or emptied; read and write.
    New = nr::open::RW_TRUNC_BINARY,
}

impl File {
    /// Opens a file of the host.
    pub fn open(path: &CStr, mode: Mode) -> Result<File, HostError> {
        let block = [path.as_ptr() as usize, mode as usize, path.to_bytes().len()];
        // Safety: the block is what SYS_OPEN reads: a string of that length, and a mode.
        let handle = unsafe { syscall(nr::OPEN, &block) };
        if handle == usize::MAX {
            Err(HostError)
        } else {
            Ok(File(handle))
        }
    }

    /// Bytes of the file.
    pub fn size(&self) -> Result<usize, HostError> {
        // Safety: SYS_FLEN reads a handle.
        let size = unsafe { syscall(nr::FLEN, &[self.0]) };
        if size == usize::MAX {
            Err(HostError)
        } else {
            Ok(size)
        }
    }

    fn seek(&mut self, place: usize) -> Result<(), HostError> {
        // Safety: SYS_SEEK reads a handle and a place.
        done(unsafe { syscall(nr::SEEK, &[self.0, place]) })
    }

    /// Reads all of `into`, from `place`.
    pub fn read(&mut self, place: usize, into: &mut [u8]) -> Result<(), HostError> {
        self.seek(place)?;
        self.read_on(into)
    }

    /// Reads all of `into`, from where the last read ended.
    pub fn read_on(&mut self, into: &mut [u8]) -> Result<(), HostError> {
        let block = [self.0, into.as_mut_ptr() as usize, into.len()];
        // Safety: SYS_READ writes at most that many bytes there, and `into` is borrowed for the call.
        done(unsafe { syscall(nr::READ, &block) })
    }

    /// Writes all of `bytes`, from `place`. The host has them when this returns.
    pub fn write(&mut self, place: usize, bytes: &[u8]) -> Result<(), HostError> {
        self.seek(place)?;
        let block = [self.0, bytes.as_ptr() as usize, bytes.len()];
        // Safety: SYS_WRITE reads that many bytes there.
        done(unsafe { syscall(nr::WRITE, &block) })
    }
}

/// Calls that answer with what is left undone.
fn done(left: usize) -> Result<(), HostError> {
    if left == 0 {
        Ok(())
    } else {
        Err(HostError)
    }
}

/// The command line: what stands behind `arg=` in `-semihosting-config`, separated by spaces.
pub fn command_line(into: &mut [u8; LINE_MAX]) -> Result<&CStr, HostError> {
    let block = [into.as_mut_ptr() as usize, into.len()];
    // Safety: SYS_GET_CMDLINE writes at most that many bytes there, and an end.
    done(unsafe { syscall(nr::GET_CMDLINE, &block) })?;
    CStr::from_bytes_until_nul(into).map_err(|_| HostError)
}

/// Says something on the terminal that QEMU was started from.
pub fn say(text: &[u8]) {
    for byte in text {
        // Safety: SYS_WRITEC reads one byte.
        unsafe { syscall(nr::WRITEC, byte) };
    }
}

/// The words of the command line, the first of them as the name of a file.
pub fn words(line: &mut [u8; LINE_MAX]) -> Option<(&CStr, impl Iterator<Item = &str>)> {
    command_line(line).ok()?;
    let space = line.iter().position(|&byte| byte == b' ')?;
    // The name of a file ends with a zero.
    *line.get_mut(space)? = 0;
    let (file, rest) = line.split_at_checked(space.checked_add(1)?)?;
    let rest = rest.split(|&byte| byte == 0).next()?;
    let words = rest.split(|&byte| byte == b' ').filter_map(|word| core::str::from_utf8(word).ok());
    Some((CStr::from_bytes_until_nul(file).ok()?, words))
}

/// Seconds since 1970, by the host's clock.
pub fn seconds() -> u32 {
    // Safety: SYS_TIME reads nothing.
    unsafe { cortex_m_semihosting::syscall1(nr::TIME, 0) as u32 }
}

/// A number nobody can foresee, where the host has them; else the time.
pub fn random() -> u32 {
    let mut bytes = [0; 4];
    let file = File::open(c"/dev/urandom", Mode::Readable);
    match file.and_then(|mut file| file.read_on(&mut bytes)) {
        Ok(()) => u32::from_ne_bytes(bytes),
        Err(_) => seconds(),
    }
}

/// Ends QEMU, with exit code 0 if all went well and 1 if not.
pub fn exit(is_well: bool) -> ! {
    let status = if is_well { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE };
    loop {
        debug::exit(status);
    }
}
