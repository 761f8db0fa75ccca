//! `forebay publish`: a message, or one a line of standard input.

use std::io::{self, BufRead, BufReader};

use super::args::Publish;
use super::link::{Identity, Link};
use crate::gateway::errors::Fatal;
use crate::protocol::mqtt::codec::{self, Ack, Packet, PacketId, Properties, Qos};

/// Most messages on their way at a time.
const WINDOW_COUNT: usize = 100;

/// Bytes put together before they are sent, while there are more lines at hand.
const BATCH_BYTES: usize = 16 * 1024;

/// Publishes, and ends when everything is confirmed.
pub fn publish(task: &Publish) -> Result<(), Fatal> {
    let link = Link::open(&task.to, Identity { silent: true, ..Identity::default() })?;
    let mut sender = Sender { link, task, next_id: 1, unconfirmed: 0 };
    match &task.message {
        Some(message) => sender.send(message.as_bytes())?,
        None => sender.send_lines()?,
    }
    while sender.unconfirmed > 0 {
        sender.await_confirm()?;
    }
    sender.link.close()
}

struct Sender<'t> {
    link: Link,
    task: &'t Publish,
    next_id: u16,
    unconfirmed: usize,
}

impl Sender<'_> {
    fn send_lines(&mut self) -> Result<(), Fatal> {
        let mut input = BufReader::new(io::stdin());
        let mut line = Vec::new();
        loop {
            line.clear();
            let count = input.read_until(b'\n', &mut line);
            match count.map_err(|error| Fatal::system("cannot read standard input", &error))? {
                0 => return Ok(()),
                _ => self.send(line.strip_suffix(b"\n").unwrap_or(&line))?,
            }
            // A line that was typed goes out at once; lines from a file go out together.
            if input.buffer().is_empty() || self.link.unsent() > BATCH_BYTES {
                self.link.flush()?;
            }
        }
    }

    fn send(&mut self, payload: &[u8]) -> Result<(), Fatal> {
        while self.unconfirmed >= WINDOW_COUNT {
            self.await_confirm()?;
        }
        let qos = Qos::from_bits(self.task.qos).unwrap_or_default();
        let packet_id = if qos == Qos::AtMostOnce { None } else { self.take_id() };
        self.unconfirmed += usize::from(packet_id.is_some());
        self.link.push(&Packet::Publish(codec::Publish {
            dup: false,
            qos,
            retain: self.task.retain,
            topic: self.task.topic.as_bytes(),
            packet_id,
            properties: Properties::NONE,
            payload,
        }))
    }

    fn take_id(&mut self) -> Option<PacketId> {
        let id = PacketId::new(self.next_id);
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        id
    }

    fn await_confirm(&mut self) -> Result<(), Fatal> {
        let received = self.link.next(|packet| match packet {
            Packet::PubAck(_) | Packet::PubComp(_) => Ok(None),
            Packet::PubRec(ack) => Ok(Some(ack.packet_id)),
            _ => Err(Fatal("the broker sent what a publisher does not expect".into())),
        })?;
        match received {
            Some(id) => self.link.push(&Packet::PubRel(Ack::success(id))),
            None => {
                self.unconfirmed = self.unconfirmed.saturating_sub(1);
                Ok(())
            }
        }
    }
}
