//! CRC-32C, one function: hardware where the gateway has it, a table of 64 bytes on a microcontroller.
//!
//! The function continues a checksum over further bytes, so a record is checked over its parts
//! where they lie. A seed is simply the checksum that is continued.

/// The checksum of what `before` covers followed by `bytes`.
#[cfg(feature = "gateway")]
pub(crate) fn crc(before: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(before, bytes)
}

/// The checksum of what `before` covers followed by `bytes`.
#[cfg(not(feature = "gateway"))]
pub(crate) fn crc(before: u32, bytes: &[u8]) -> u32 {
    plain(before, bytes)
}

/// The polynomial, reflected.
#[cfg(any(test, not(feature = "gateway")))]
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What four bits do to the register: a quarter of the steps of no table, a sixteenth of the flash of a large one.
#[cfg(any(test, not(feature = "gateway")))]
const NIBBLES: [u32; 16] = {
    let mut table = [0; 16];
    let mut nibble = 0;
    while nibble < 16 {
        let mut register = nibble as u32;
        let mut bit = 0;
        while bit < 4 {
            register = register >> 1 ^ if register & 1 > 0 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[nibble] = register;
        nibble += 1;
    }
    table
};

#[cfg(any(test, not(feature = "gateway")))]
#[cfg_attr(not(feature = "gateway"), inline(never))]
fn plain(before: u32, bytes: &[u8]) -> u32 {
    let step = |register: u32| register >> 4 ^ NIBBLES.get(register as usize & 15).copied().unwrap_or(0);
    !bytes.iter().fold(!before, |register, &byte| step(step(register ^ u32::from(byte))))
}

/// Continues a checksum over a number.
pub(crate) fn crc_u32(before: u32, number: u32) -> u32 {
    crc(before, &number.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_algorithm_comes_out() {
        assert_eq!(crc(0, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn both_implementations_agree_and_continue() {
        let bytes: [u8; 97] = core::array::from_fn(|i| (i * 37) as u8);
        for cut in 0..bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(plain(plain(7, a), b), plain(7, &bytes));
            assert_eq!(crc(crc(7, a), b), plain(7, &bytes));
        }
    }
}
