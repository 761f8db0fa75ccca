//! CRC-32C, one function: hardware where the gateway has it, without a table on a microcontroller.
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

#[cfg(any(test, not(feature = "gateway")))]
#[cfg_attr(not(feature = "gateway"), inline(never))]
fn plain(before: u32, bytes: &[u8]) -> u32 {
    use crc::{Crc, NoTable, CRC_32_ISCSI};
    const CASTAGNOLI: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISCSI);
    // The algorithm's register is the reflected complement of what it gives out.
    let mut digest = CASTAGNOLI.digest_with_initial((!before).reverse_bits());
    digest.update(bytes);
    digest.finalize()
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
