//! How deep the stack has been: `cortex-m-rt` paints it before anything runs.

use cortex_m_rt::STACK_PAINT_VALUE;

extern "C" {
    static _stack_end: u32;
    static _stack_start: u32;
}

/// Bytes of the stack that were ever written, from its beginning to the last painted word.
pub fn deepest() -> usize {
    let (mut at, start) = (&raw const _stack_end, &raw const _stack_start);
    // Safety: every word between the two is RAM that is set aside for the stack.
    while at < start && unsafe { at.read_volatile() } == STACK_PAINT_VALUE {
        at = at.wrapping_add(1);
    }
    start as usize - at as usize
}

/// Paints what is not in use again, to measure what comes.
#[inline(never)]
pub fn paint() {
    let (mut at, here) = (&raw const _stack_end, cortex_m::register::msp::read() as *const u32);
    // Safety: words below the stack pointer are in nobody's use; a little is left to this function.
    while at < here.wrapping_sub(16) {
        unsafe { at.cast_mut().write_volatile(STACK_PAINT_VALUE) };
        at = at.wrapping_add(1);
    }
}
