//! Numbers as decimal digits.

/// Most digits of a number.
pub const DIGITS_MAX: usize = 20;

/// Writes a number behind the bytes of `into`; returns what was written, or nothing if it does not fit.
pub fn write(number: u64, into: &mut [u8]) -> &[u8] {
    let mut count = 1;
    let mut rest = number / 10;
    while rest > 0 {
        count += 1;
        rest /= 10;
    }
    let Some(digits) = into.get_mut(..count) else { return &[] };
    rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

/// Reads a number; none if there is anything but digits, or none at all.
pub fn read(text: &[u8]) -> Option<u64> {
    let first = text.first()?;
    first.is_ascii_digit().then_some(())?;
    text.iter().try_fold(0u64, |sum, &byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then_some(())?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
