//! Tells the program that started this one that it serves, and that it is alive.
//!
//! systemd (and others that speak sd_notify(3)) names a datagram socket in the environment. `READY=1` goes there
//! once messages can be taken, `WATCHDOG=1` at half the span that is allowed between two, from the one thread that
//! serves: if a turn hangs, the supervisor sees it. Without such a socket nothing is sent and nothing waits.
//!
//! Source: sd_notify(3), sd_watchdog_enabled(3).

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::units::Millis;

/// Where to tell it, and how often.
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    every_ms: u64,
    next: Millis,
}

impl Supervisor {
    /// The supervisor that the environment names, or nobody.
    pub fn of_environment() -> Supervisor {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|name| match reach(name.as_bytes()) {
            Ok(socket) => Some(socket),
            Err(error) => {
                log::warn!(
                    "NOTIFY_SOCKET {}: {error}; nobody is told that this is ready",
                    name.to_string_lossy()
                );
                None
            }
        });
        let span_us: Option<u64> = env::var("WATCHDOG_USEC").ok().and_then(|span| span.parse().ok());
        let is_other = env::var("WATCHDOG_PID").is_ok_and(|pid| pid != std::process::id().to_string());
        let every_ms = span_us.filter(|_| socket.is_some() && !is_other).unwrap_or(0) / 2000;
        Supervisor { socket, every_ms, next: if every_ms > 0 { Millis(0) } else { Millis::NEVER } }
    }

    /// Messages are taken from now on.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// When `handle_time` has something to tell.
    pub fn poll_timeout(&self) -> Millis {
        self.next
    }

    /// Says that this is alive, if it is time to.
    pub fn handle_time(&mut self, now: Millis) {
        if now >= self.next {
            self.next = now.after(self.every_ms);
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, what: &str) {
        // A supervisor that does not listen any more is none.
        let _ = self.socket.as_ref().map(|socket| socket.send(what.as_bytes()));
    }
}

/// A socket connected to one of the file system, or with `@` to an abstract one.
fn reach(name: &[u8]) -> std::io::Result<UnixDatagram> {
    let address = match name.split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        socket.set_nonblocking(true).unwrap();
        let len = socket.recv(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    #[test]
    fn a_supervisor_hears_of_the_start_and_then_at_half_its_span() {
        let name = format!("forebay-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        let socket = reach(format!("@{name}").as_bytes()).unwrap();
        let mut supervisor = Supervisor { socket: Some(socket), every_ms: 500, next: Millis(0) };
        supervisor.ready();
        assert_eq!(heard(&listener), "READY=1");
        for (now, said) in [(1000, "WATCHDOG=1"), (1499, ""), (1500, "WATCHDOG=1")] {
            supervisor.handle_time(Millis(now));
            assert_eq!(heard(&listener), said, "{now}");
        }
        assert_eq!(supervisor.poll_timeout(), Millis(2000));
        drop(listener);
        supervisor.stopping();
    }

    #[test]
    fn without_a_supervisor_nothing_is_waited_for() {
        let supervisor = Supervisor { socket: None, every_ms: 0, next: Millis::NEVER };
        supervisor.ready();
        assert_eq!(supervisor.poll_timeout(), Millis::NEVER);
        assert!(reach(b"/nowhere/at/all").is_err());
    }
}
