//! The connection itself: login, agreement on sizes, signs of life, the end (class connection).
//!
//! ```text
//! client   greeting        start-ok         tune-ok  open
//! server            start           tune                   open-ok
//! ```
//! Both sides send something at least every heartbeat; the broker sends one when half of that has
//! passed in silence, and gives up on a peer it has not heard of for two (specification 4.2.7).
//!
//! Limits: `amqp.frame_max`, `amqp.channel_max`, `connections.handshake` for the login.

use super::codec::method::MethodId;
use super::codec::table::{Table, TableWriter};
use super::codec::{write, Field, Method, FRAME_MIN};
use super::errors::{code, Fault};
use super::permissions::Granted;
use super::sasl::{self, Login};
use super::session::{beat, AmqpSession, Work};
use crate::protocol::Close;
use crate::units::{Millis, Position};

/// How long a peer that was told of an error has to answer.
pub(super) const CLOSING_MS: u64 = 5000;

/// How often a client that was told to wait is looked after.
const BLOCKED_MS: u64 = 500;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The client has to say what it speaks.
    Greeting,
    /// It has to say who it is.
    Start,
    /// It has to agree on sizes.
    Tune,
    /// It has to choose a virtual host.
    Open,
    /// It is at work.
    Running,
    /// It was told that the connection is over, and has until then to agree.
    Closing(Millis),
}

/// What a client says it understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// basic.cancel from the server.
    pub consumer_cancel_notify: bool,
    /// connection.blocked.
    pub connection_blocked: bool,
    /// A close in answer to a login that fails.
    pub authentication_failure_close: bool,
}

impl Capabilities {
    fn read(client_properties: Table<'_>) -> Capabilities {
        let table = client_properties.get("capabilities").and_then(Field::table).unwrap_or_default();
        let has = |name| table.get(name).and_then(Field::bool) == Some(true);
        Capabilities {
            consumer_cancel_notify: has("consumer_cancel_notify"),
            connection_blocked: has("connection.blocked"),
            authentication_failure_close: has("authentication_failure_close"),
        }
    }
}

/// What the server says of itself.
fn server_properties(table: &mut TableWriter<'_>) {
    table.table("capabilities", |table| {
        for name in [
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "consumer_priorities",
            "authentication_failure_close",
            "per_consumer_qos",
            "direct_reply_to",
        ] {
            table.bool(name, true);
        }
    });
    table.text("product", "Forebay");
    table.text("version", env!("CARGO_PKG_VERSION"));
    table.text("platform", "Rust");
}

impl AmqpSession {
    /// The greeting was right.
    pub(super) fn start(&mut self, work: &mut Work<'_>) {
        write::connection_start(work.out, server_properties);
        self.phase = Phase::Start;
    }

    /// A method on channel 0.
    pub(super) fn handle_connection(
        &mut self,
        id: MethodId,
        method: &Method<'_>,
        work: &mut Work<'_>,
    ) -> Result<(), Close> {
        let outcome = match (self.phase, method) {
            (_, Method::ConnectionClose { code, text }) => {
                log::debug!(
                    "amqp: a client of user '{}' closes with {code}: {}",
                    self.user,
                    String::from_utf8_lossy(text)
                );
                self.replies.release(Position(u64::MAX), work.out);
                write::plain(0, 10, 51, work.out);
                return Err(Close::Normal);
            }
            (Phase::Start, Method::ConnectionStartOk { client_properties, mechanism, response }) => {
                self.capabilities = Capabilities::read(*client_properties);
                return self.login(id, mechanism, response, work);
            }
            (Phase::Tune, Method::ConnectionTuneOk { channel_max, frame_max, heartbeat_s }) => {
                self.agree(*channel_max, *frame_max, *heartbeat_s, work.broker.now())
            }
            (Phase::Open, Method::ConnectionOpen { virtual_host }) => self.open(virtual_host, work),
            (Phase::Running, Method::ConnectionUpdateSecret { secret }) => self.update_secret(secret, work),
            (_, Method::ConnectionCloseOk) => Ok(()),
            _ => Err(Fault::new(
                code::COMMAND_INVALID,
                format!("method {}.{} cannot come now on channel 0", id.class, id.method),
            )),
        };
        if let Err(fault) = outcome {
            self.fault(0, id, fault, work);
        }
        Ok(())
    }

    fn login(
        &mut self,
        id: MethodId,
        mechanism: &str,
        response: &[u8],
        work: &mut Work<'_>,
    ) -> Result<(), Close> {
        let refused = match sasl::login(&self.settings.users, mechanism, response, self.is_local) {
            Login::Accepted(user) => {
                self.user = user.into();
                let settings = &self.settings;
                self.granted = Granted::to(&self.user, &settings.permissions);
                write::connection_tune(
                    settings.channel_max,
                    settings.frame_max,
                    settings.heartbeat_s,
                    work.out,
                );
                self.phase = Phase::Tune;
                return Ok(());
            }
            Login::Unknown => {
                let text = format!("mechanism {mechanism} is unknown; there are PLAIN and AMQPLAIN");
                self.fault(0, id, Fault::new(code::COMMAND_INVALID, text), work);
                return Ok(());
            }
            Login::Refused => format!(
                "Login was refused using authentication mechanism {mechanism}. \
                 For details see the broker logfile."
            ),
            Login::NotFromThere => {
                "user 'guest' can only connect from this machine; add a user to amqp.users".to_string()
            }
        };
        log::warn!("amqp: a login was refused; users are in amqp.users, and guest is for this machine only");
        if !self.capabilities.authentication_failure_close {
            return Err(Close::Protocol("its login was refused"));
        }
        self.fault(0, id, Fault::new(code::ACCESS_REFUSED, refused).of_connection(), work);
        Ok(())
    }

    fn agree(
        &mut self,
        channel_max: u16,
        frame_max: u32,
        heartbeat_s: u16,
        now: Millis,
    ) -> Result<(), Fault> {
        let settings = &self.settings;
        let agreed = |asked: u32, ours: u32, name: &str| match asked {
            0 => Ok(ours),
            _ if ours > 0 && asked > ours => {
                Err(Fault::new(code::NOT_ALLOWED, format!("negotiated {name} = {asked} is over {ours}")))
            }
            _ => Ok(asked),
        };
        let frame_max = agreed(frame_max, settings.frame_max, "frame_max")?;
        if frame_max < FRAME_MIN {
            let text = format!("negotiated frame_max = {frame_max} is under the least, {FRAME_MIN}");
            return Err(Fault::new(code::NOT_ALLOWED, text));
        }
        let channel_max = agreed(u32::from(channel_max), u32::from(settings.channel_max), "channel_max")?;
        self.frame_max = frame_max;
        self.channel_max = channel_max as u16;
        self.heartbeat_ms = u64::from(heartbeat_s) * 1000;
        if self.heartbeat_ms > 0 {
            self.next_beat = now.after(self.heartbeat_ms / 2);
        }
        self.phase = Phase::Open;
        Ok(())
    }

    fn open(&mut self, virtual_host: &str, work: &mut Work<'_>) -> Result<(), Fault> {
        if !self.settings.virtual_hosts.iter().any(|known| known == virtual_host) {
            return Err(Fault::new(code::NOT_ALLOWED, format!("vhost {virtual_host} not found")));
        }
        if self.granted == Granted::Nothing {
            let text = format!("access to vhost '{virtual_host}' refused for user '{}'", self.user);
            return Err(Fault::new(code::NOT_ALLOWED, text));
        }
        self.virtual_host = virtual_host.into();
        if self.settings.consumer_timeout_ms > 0 {
            self.next_check = work.broker.now().after(self.settings.consumer_timeout_ms);
        }
        write::connection_open_ok(work.out);
        self.phase = Phase::Running;
        Ok(())
    }

    /// New credentials for the one who is there; what comes of them is decided as at the login.
    fn update_secret(&mut self, secret: &[u8], work: &mut Work<'_>) -> Result<(), Fault> {
        if !sasl::is_secret(&self.settings.users, &self.user, secret) {
            let text = "the new secret is not that of the user";
            return Err(Fault::new(code::ACCESS_REFUSED, text).of_connection());
        }
        self.reply(Position(0), work, |out| write::plain(0, 10, 71, out));
        Ok(())
    }

    /// Tells a client that publishes when the store begins and ends to be short of room.
    pub(super) fn tell_blocked(&mut self, work: &mut Work<'_>) {
        let is_short = self.has_published && work.broker.is_short();
        if is_short == self.is_blocked {
            return;
        }
        self.is_blocked = is_short;
        if !self.capabilities.connection_blocked {
            return;
        }
        self.has_spoken = true;
        match is_short {
            true => write::connection_blocked("the store is short of room", work.out),
            false => write::plain(0, 10, 61, work.out),
        }
    }

    pub(super) fn deadline(&self) -> Millis {
        if let Phase::Closing(until) = self.phase {
            return until;
        }
        let mut next = self.next_beat.min(self.next_check);
        if self.heartbeat_ms > 0 {
            next = next.min(self.heard.after(self.heartbeat_ms * 2));
        }
        if self.is_blocked {
            next = next.min(self.heard.after(BLOCKED_MS));
        }
        next
    }

    pub(super) fn check_life(&mut self, now: Millis, work: &mut Work<'_>) -> Result<(), Close> {
        if let Phase::Closing(until) = self.phase {
            return match now >= until {
                true => Err(Close::Protocol("it was closed with an error and did not answer")),
                false => Ok(()),
            };
        }
        if self.heartbeat_ms > 0 && now >= self.heard.after(self.heartbeat_ms * 2) {
            return Err(Close::Silent);
        }
        if now >= self.next_beat {
            if !std::mem::take(&mut self.has_spoken) {
                beat(work.out);
            }
            self.next_beat = now.after(self.heartbeat_ms / 2);
        }
        if self.is_blocked {
            self.tell_blocked(work);
        }
        if now >= self.next_check {
            self.next_check = now.after(self.settings.consumer_timeout_ms);
            self.check_unsettled(work);
        }
        Ok(())
    }

    /// Ends the channels with a delivery that waited to be settled at the last check already.
    fn check_unsettled(&mut self, work: &mut Work<'_>) {
        for number in 0..self.channels.len() as u32 {
            let number = number as u16;
            let Some(mut channel) = self.take_channel(number) else { continue };
            let is_late = channel.window.was_waiting();
            self.put_channel(channel);
            if is_late {
                let text = format!(
                    "delivery acknowledgement on channel {number} timed out. Timeout value used: {} ms. \
                     See amqp.consumer_timeout",
                    self.settings.consumer_timeout_ms
                );
                self.fault(number, MethodId::default(), Fault::new(code::PRECONDITION_FAILED, text), work);
            }
        }
    }
}
