//! The driver's loop over `embedded-io` streams.
//!
//! [`turn`] is one pass for a main loop over a stream that can say whether there is something to read;
//! [`send`] and [`receive`] are the halves for async code, to be raced against a timer that ends at
//! `Leaf::poll_timeout` and against whatever publishes.

use super::{Inbox, Leaf};
use crate::flash::Flash;
use crate::units::Millis;
use embedded_io::{Read, ReadReady, Write};

/// Bytes read at once.
const PIECE: usize = 64;

/// One pass: takes what has come, writes what is to be said. `out` is at least
/// [`Leaf::output_min`] long. True if something came or was written.
pub fn turn<F: Flash, S: Read + ReadReady + Write>(
    leaf: &mut Leaf<'_, F>,
    stream: &mut S,
    out: &mut [u8],
    now: Millis,
    inbox: &mut dyn Inbox,
) -> Result<bool, S::Error> {
    let mut is_busy = false;
    if stream.read_ready()? {
        let mut piece = [0; PIECE];
        let count = stream.read(&mut piece)?;
        leaf.handle_input(piece.get(..count).unwrap_or(&[]), now, inbox);
        is_busy = count > 0;
    }
    let count = leaf.poll_output(out, now, inbox);
    if count > 0 {
        stream.write_all(out.get(..count).unwrap_or(&[]))?;
        stream.flush()?;
        is_busy = true;
    }
    Ok(is_busy)
}

/// Writes what is to be said; true if that was something.
pub async fn send<F: Flash, S: embedded_io_async::Write>(
    leaf: &mut Leaf<'_, F>,
    stream: &mut S,
    out: &mut [u8],
    now: Millis,
    inbox: &mut dyn Inbox,
) -> Result<bool, S::Error> {
    let count = leaf.poll_output(out, now, inbox);
    if count > 0 {
        stream.write_all(out.get(..count).unwrap_or(&[])).await?;
        stream.flush().await?;
    }
    Ok(count > 0)
}

/// Waits for bytes into `piece`, and says how many; the caller then gives them to
/// [`Leaf::handle_input`]. Cancelling it loses nothing if cancelling the stream's read does not.
pub async fn receive<S: embedded_io_async::Read>(
    stream: &mut S,
    piece: &mut [u8],
) -> Result<usize, S::Error> {
    stream.read(piece).await
}
