//! Bodies that say which message they are, and of which every byte can be checked.

/// Bytes that a body has at least.
const FRONT: usize = 4;

fn fill(number: u32, place: usize) -> u8 {
    (number as usize ^ place.wrapping_mul(0x6d)) as u8
}

/// Writes the body of a message, of this size or a little more.
pub fn write(number: u32, size: usize, into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(&number.to_le_bytes());
    (FRONT..size).for_each(|place| into.push(fill(number, place)));
    into.push(into.len() as u8);
}

/// The number of the message whose body this is; none if no message has such a body.
pub fn number_of(body: &[u8]) -> Option<u32> {
    let (&size, content) = body.split_last()?;
    let number = u32::from_le_bytes(content.get(..FRONT)?.try_into().ok()?);
    let right = content.iter().enumerate().skip(FRONT).all(|(place, &byte)| byte == fill(number, place));
    (right && content.len() as u8 == size).then_some(number)
}
