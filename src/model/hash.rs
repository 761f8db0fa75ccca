//! One keyed 64-bit hash for every table of the core.
//!
//! Keyed, because clients choose the names: who does not know the seed cannot prepare names that
//! fall into one bucket. Not cryptographic: a table that must not confuse two names compares
//! them. Eight bytes a step, each step one widening multiplication folded to 64 bits, the seed
//! in the state and in the multiplier.
//! ```text
//! state = seed;   every 8 bytes b (the last padded with zeros):  state = fold(state ^ b, multiplier)
//! hash  = fold(state ^ length, multiplier)
//! ```
//! Keys and words hash in their AMQP spelling, so equal ones hash equal in either [`Form`].
//! The two separators differ in one bit, which lets eight bytes be respelled at once.

use super::key::{Form, Key};

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const ONES: u64 = 0x0101_0101_0101_0101;
const SEVENS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const SLASHES: u64 = 0x2f2f_2f2f_2f2f_2f2f;

/// Multiplies two numbers and folds the product to one that depends on all bits of both.
#[cfg_attr(not(feature = "gateway"), inline(never))]
pub const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

const fn multiplier(seed: u64) -> u64 {
    (seed.rotate_left(32) ^ GOLDEN) | 1
}

/// Hash of one number.
#[cfg_attr(not(feature = "gateway"), inline(never))]
pub const fn mix(seed: u64, number: u64) -> u64 {
    fold(seed ^ number, multiplier(seed))
}

/// Hash of a sequence of bytes.
pub fn hash(seed: u64, parts: impl Iterator<Item = u8>) -> u64 {
    let by = multiplier(seed);
    let (mut state, mut block, mut length) = (seed, 0u64, 0u64);
    for byte in parts {
        block |= u64::from(byte) << ((length & 7) * 8);
        length = length.wrapping_add(1);
        if length & 7 == 0 {
            state = fold(state ^ block, by);
            block = 0;
        }
    }
    fold(fold(state ^ block, by) ^ length, by)
}

/// Hash of a slice; the same as [`hash`] of its bytes.
pub fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    hash_word(seed, bytes, Form::Dots)
}

/// Hash of a text in the spelling of its form; the same as [`hash`] of its canonical bytes.
pub fn hash_word(seed: u64, word: &[u8], form: Form) -> u64 {
    let by = multiplier(seed);
    let mut state = seed;
    let mut rest = word;
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        state = fold(state ^ respell(u64::from_le_bytes(*chunk), form), by);
        rest = after;
    }
    let tail = rest.iter().rev().fold(0u64, |block, &byte| block << 8 | u64::from(byte));
    fold(fold(state ^ respell(tail, form), by) ^ word.len() as u64, by)
}

/// Hash of a key; equal keys of different forms hash equal.
pub fn hash_key(seed: u64, key: Key<'_>) -> u64 {
    hash_word(seed, key.text, key.form)
}

/// Eight bytes in the AMQP spelling: `.` is 0x2e and `/` is 0x2f, so the last bit is turned.
const fn respell(block: u64, form: Form) -> u64 {
    match form {
        Form::Dots => block,
        Form::Slashes => {
            let difference = (block | ONES) ^ SLASHES;
            let equal = !(((difference & SEVENS) + SEVENS) | difference | SEVENS);
            block ^ (equal >> 7)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_hash_as_their_bytes_in_either_form_at_every_length() {
        let text = b"plant/line.7//a..b/\xaf\xae\x2e\x2f\0\xff.tail";
        for end in 0..=text.len() {
            let word = &text[..end];
            for form in [Form::Dots, Form::Slashes] {
                let slowly = hash(3, Key { text: word, form }.canonical());
                assert_eq!(hash_word(3, word, form), slowly, "{end} {form:?}");
            }
        }
    }

    #[test]
    fn equal_keys_of_two_forms_hash_equal() {
        assert_eq!(hash_key(9, Key::slashes(b"plant/line.7")), hash_key(9, Key::dots(b"plant.line/7")));
        assert_ne!(hash_key(9, Key::slashes(b"plant/line.7")), hash_key(9, Key::dots(b"plant/line.7")));
    }

    #[test]
    fn length_and_seed_matter() {
        assert_ne!(hash_bytes(1, b"a"), hash_bytes(1, b"a\0"));
        assert_ne!(hash_bytes(1, b""), hash_bytes(1, b"\0\0\0\0\0\0\0\0"));
        assert_ne!(hash_bytes(1, b"a"), hash_bytes(2, b"a"));
    }

    #[test]
    fn similar_names_spread_over_the_buckets() {
        const BUCKETS: usize = 1024;
        for seed in [0, 1, 0xdead_beef] {
            let mut counts = [0u32; BUCKETS];
            for number in 0..BUCKETS as u32 {
                let mut name = *b"sensor-0000";
                for (place, digit) in name[7..].iter_mut().enumerate() {
                    *digit = b'0' + (number / 10u32.pow(3 - place as u32) % 10) as u8;
                }
                counts[super::super::link::bucket(hash_bytes(seed, &name), BUCKETS)] += 1;
            }
            assert!(counts.iter().all(|&count| count < 10), "seed {seed}");
            assert!(counts.iter().filter(|&&count| count > 0).count() > BUCKETS / 2);
        }
    }
}
