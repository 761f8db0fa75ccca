//! Time: TIMER0, a CMSDK APB timer that counts down at the clock of the processor.
//!
//! ```text
//! 0x00 CTRL    bit 0: run
//! 0x04 VALUE   counts down
//! 0x08 RELOAD  goes on from there
//! ```
//! (Arm, "Cortex-M System Design Kit Technical Reference Manual", 4.1.) It goes round in 171 seconds; whoever asks
//! for the time more often than that gets it right. SysTick ends a sleep every few milliseconds.

use core::ptr;

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{Peripherals, NVIC, SCB};
use forebay_board::ticks::Ticks;

/// Ticks a second.
pub const HERTZ: u32 = 25_000_000;
/// A sleep takes no longer.
const NAP_MS: u32 = 2;

const CTRL: usize = 0x4000_0000;
const VALUE: usize = 0x4000_0004;
const RELOAD: usize = 0x4000_0008;
/// Interrupts of the board: UART0 has received a byte.
const RECEIVED: u16 = 0;

/// The clock.
#[derive(Debug)]
pub struct Clock(Ticks);

/// A number of the NVIC.
#[derive(Clone, Copy)]
struct Line(u16);

// Safety: the number of a line that exists, always the same.
unsafe impl cortex_m::interrupt::InterruptNumber for Line {
    fn number(self) -> u16 {
        self.0
    }
}

fn count() -> u32 {
    // Safety: a register of TIMER0; reading has no effect on memory.
    u32::MAX - unsafe { ptr::read_volatile(VALUE as *const u32) }
}

impl Clock {
    /// Starts it, and what ends a sleep. Interrupts are masked from here on.
    pub fn start(core: &mut Peripherals) -> Clock {
        cortex_m::interrupt::disable();
        for (register, value) in [(RELOAD, u32::MAX), (VALUE, u32::MAX), (CTRL, 1)] {
            // Safety: registers of TIMER0; writing has no effect on memory.
            unsafe { ptr::write_volatile(register as *mut u32, value) };
        }
        core.SYST.set_clock_source(SystClkSource::Core);
        core.SYST.set_reload(HERTZ / 1000 * NAP_MS - 1);
        core.SYST.clear_current();
        core.SYST.enable_counter();
        core.SYST.enable_interrupt();
        // Safety: interrupts are masked, so none is ever taken.
        unsafe { NVIC::unmask(Line(RECEIVED)) };
        Clock(Ticks::new(count()))
    }

    /// Ticks since the start.
    pub fn ticks(&mut self) -> u64 {
        self.0.at(count())
    }

    /// Milliseconds since the start.
    pub fn now_ms(&mut self) -> u64 {
        self.ticks() / u64::from(HERTZ / 1000)
    }
}

/// Sleeps until a byte is received, but no longer than a few milliseconds.
pub fn sleep() {
    cortex_m::asm::wfi();
    SCB::clear_pendst();
    NVIC::unpend(Line(RECEIVED));
}
