//! COBS: bytes without a zero, so that a zero ends a frame (Cheshire and Baker, 1999).
//!
//! ```text
//! bytes    11 22 00 33                 each zero is replaced by the distance to the next
//! coded    03 11 22 02 33              FF is a block of 254 bytes without one
//! ```
//! A reader that joined in the middle, or lost bytes, is right again at the next zero. The cost is
//! one byte, and one more for every 254.

/// Bytes that `len` bytes take at most, the zero at the end included.
pub const fn coded_max(len: usize) -> usize {
    len.saturating_add(len / 254).saturating_add(2)
}

/// The longest block's code: 254 bytes, and no zero behind them.
const FULL: u8 = 0xff;

/// Codes into a borrowed buffer, byte by byte.
#[derive(Debug)]
pub struct Coder<'b> {
    out: &'b mut [u8],
    code_at: usize,
    end: usize,
    code: u8,
    overflowed: bool,
}

impl<'b> Coder<'b> {
    /// Codes from the start of a buffer.
    pub fn new(out: &'b mut [u8]) -> Coder<'b> {
        Coder { out, code_at: 0, end: 1, code: 1, overflowed: false }
    }

    fn set(&mut self, at: usize, byte: u8) {
        match self.out.get_mut(at) {
            Some(place) => *place = byte,
            None => self.overflowed = true,
        }
    }

    fn close_block(&mut self) {
        self.set(self.code_at, self.code);
        self.code_at = self.end;
        self.end = self.end.saturating_add(1);
        self.code = 1;
    }

    /// Adds a byte; false if the buffer is full.
    pub fn push(&mut self, byte: u8) -> bool {
        if self.code == FULL {
            self.close_block();
        }
        if byte == 0 {
            self.close_block();
        } else {
            self.set(self.end, byte);
            self.end = self.end.saturating_add(1);
            self.code = self.code.saturating_add(1);
        }
        !self.overflowed
    }

    /// Ends the frame with its zero; its length, or none if the buffer was too small.
    pub fn finish(mut self) -> Option<usize> {
        self.set(self.code_at, self.code);
        self.set(self.end, 0);
        (!self.overflowed).then_some(self.end.saturating_add(1))
    }
}

/// Decodes in place what stood before a zero; the length, or none if it was not coded so.
pub fn decode(bytes: &mut [u8]) -> Option<usize> {
    let (mut from, mut to) = (0usize, 0usize);
    let len = bytes.len();
    while from < len {
        let code = *bytes.get(from)?;
        let count = usize::from(code).checked_sub(1)?;
        from = from.saturating_add(1);
        let end = from.checked_add(count).filter(|&end| end <= len)?;
        while from < end {
            let byte = *bytes.get(from).filter(|&&byte| byte != 0)?;
            *bytes.get_mut(to)? = byte;
            (from, to) = (from.saturating_add(1), to.saturating_add(1));
        }
        if code != FULL && from < len {
            *bytes.get_mut(to)? = 0;
            to = to.saturating_add(1);
        }
    }
    Some(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0xee; coded_max(bytes.len())];
        let mut coder = Coder::new(&mut out);
        assert!(bytes.iter().all(|&byte| coder.push(byte)));
        let len = coder.finish().unwrap();
        out.truncate(len);
        out
    }

    #[test]
    fn the_examples_of_the_paper_come_out() {
        assert_eq!(code(&[]), [1, 0]);
        assert_eq!(code(&[0]), [1, 1, 0]);
        assert_eq!(code(&[0x11, 0x22, 0, 0x33]), [3, 0x11, 0x22, 2, 0x33, 0]);
        let run: Vec<u8> = (1..=254).collect();
        assert_eq!(code(&run), [&[0xff][..], &run, &[0]].concat());
        let run: Vec<u8> = (1..=255).collect();
        assert_eq!(code(&run), [&[0xff][..], &run[..254], &[2, 255, 0]].concat());
    }

    #[test]
    fn bytes_of_any_length_come_back() {
        for len in 0..1030usize {
            for step in [1, 7, 254, 255, 256] {
                let bytes: Vec<u8> = (0..len).map(|at| if at % step == 0 { 0 } else { at as u8 }).collect();
                let mut coded = code(&bytes);
                assert_eq!(coded.pop(), Some(0));
                assert!(!coded.contains(&0) && coded.len() < coded_max(len));
                let back = decode(&mut coded).unwrap();
                assert_eq!(coded[..back], bytes);
            }
        }
    }

    #[test]
    fn what_is_not_coded_so_is_refused() {
        assert_eq!(decode(&mut [3, 1]), None);
        assert_eq!(decode(&mut [0]), None);
        assert_eq!(decode(&mut [3, 1, 0]), None);
        let mut small = [0; 3];
        let mut coder = Coder::new(&mut small);
        assert!(coder.push(1) && coder.push(2) && !coder.push(3));
        assert_eq!(coder.finish(), None);
    }
}
