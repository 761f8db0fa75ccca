//! Frames: what the bytes of a connection are cut into (specification 4.2.3).
//!
//! ```text
//! type u8 · channel u16 · size u32 · payload (size) · 0xCE
//! type   1 method   2 content header   3 content body   8 heartbeat
//! ```
//! Splitting copies nothing. A frame that announces more than was agreed is refused from its
//! first seven bytes, before anything is kept of it.
//!
//! Limits: `frame_max` as tuned, [`FRAME_MIN`] before that.

/// A method.
pub const METHOD: u8 = 1;
/// The header of a content.
pub const HEADER: u8 = 2;
/// A piece of the body of a content.
pub const BODY: u8 = 3;
/// A sign of life.
pub const HEARTBEAT: u8 = 8;
/// Ends every frame.
pub const END: u8 = 0xCE;

/// The largest frame before both sides have agreed on another size; nobody may ask for less.
pub const FRAME_MIN: u32 = 4096;
/// Bytes of a frame around its payload.
pub const OVERHEAD: usize = 8;
/// What a client says first: the protocol and its version.
pub const GREETING: [u8; 8] = *b"AMQP\0\0\x09\x01";

/// One whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its type.
    pub kind: u8,
    /// Its channel; 0 is the connection itself.
    pub channel: u16,
    /// What is in it.
    pub payload: &'a [u8],
}

/// Why some bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Larger than was agreed.
    TooLarge,
    /// No such type.
    Kind,
    /// It does not end as it should.
    End,
}

impl FrameError {
    /// What is wrong, for the peer and the log.
    pub const fn text(self) -> &'static str {
        match self {
            FrameError::TooLarge => "a frame is larger than the negotiated frame_max",
            FrameError::Kind => "a frame of an unknown type",
            FrameError::End => "a frame does not end with 0xCE",
        }
    }
}

/// The frame at the front of some bytes and its size in all; none if it is not whole yet.
pub fn split(input: &[u8], frame_max: u32) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((&[kind, high, low, a, b, c, d], rest)) = input.split_first_chunk::<7>() else {
        return Ok(None);
    };
    if !matches!(kind, METHOD | HEADER | BODY | HEARTBEAT) {
        return Err(FrameError::Kind);
    }
    let size = u32::from_be_bytes([a, b, c, d]);
    if size > frame_max.saturating_sub(OVERHEAD as u32) {
        return Err(FrameError::TooLarge);
    }
    let size = size as usize;
    let Some(&end) = rest.get(size) else { return Ok(None) };
    if end != END {
        return Err(FrameError::End);
    }
    let payload = rest.get(..size).unwrap_or_default();
    Ok(Some((Frame { kind, channel: u16::from_be_bytes([high, low]), payload }, size + OVERHEAD)))
}

/// Writes a frame whose payload is written by `fill`.
pub fn write(kind: u8, channel: u16, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let [high, low] = channel.to_be_bytes();
    out.extend_from_slice(&[kind, high, low, 0, 0, 0, 0]);
    let start = out.len();
    fill(out);
    let size = (out.len() - start) as u32;
    if let Some(place) = out.get_mut(start - 4..start) {
        place.copy_from_slice(&size.to_be_bytes());
    }
    out.push(END);
}

/// Writes a heartbeat.
pub fn write_heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(&[HEARTBEAT, 0, 0, 0, 0, 0, 0, END]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_split_only_when_it_is_whole() {
        let mut bytes = Vec::new();
        write(METHOD, 0x0102, &mut bytes, |out| out.extend_from_slice(b"abc"));
        write_heartbeat(&mut bytes);
        for end in 0..11 {
            assert_eq!(split(&bytes[..end], FRAME_MIN), Ok(None));
        }
        let frame = Frame { kind: METHOD, channel: 0x0102, payload: b"abc" };
        assert_eq!(split(&bytes, FRAME_MIN), Ok(Some((frame, 11))));
        let heartbeat = Frame { kind: HEARTBEAT, channel: 0, payload: b"" };
        assert_eq!(split(&bytes[11..], FRAME_MIN), Ok(Some((heartbeat, 8))));
    }

    #[test]
    fn a_frame_that_is_too_large_is_refused_from_its_size() {
        let at_most = [METHOD, 0, 0, 0, 0, 0x0f, 0xf8];
        assert_eq!(split(&at_most, FRAME_MIN), Ok(None));
        let more = [METHOD, 0, 0, 0, 0, 0x0f, 0xf9];
        assert_eq!(split(&more, FRAME_MIN), Err(FrameError::TooLarge));
    }

    #[test]
    fn an_unknown_type_and_a_wrong_end_are_refused() {
        assert_eq!(split(b"GET / HTTP", FRAME_MIN), Err(FrameError::Kind));
        assert_eq!(split(&[HEARTBEAT, 0, 0, 0, 0, 0, 0, 0], FRAME_MIN), Err(FrameError::End));
    }
}
