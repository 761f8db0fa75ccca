//! `forebay subscribe`: prints messages as they arrive.
//!
//! A message is acknowledged after it was written to standard output, so that with a persistent
//! session what was not printed comes again.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Write};

use super::args::Subscribe;
use super::link::{words, Identity, Link};
use crate::gateway::errors::Fatal;
use crate::protocol::mqtt::codec::{
    self, Ack, Packet, PacketId, Properties, Qos, SubscribeOptions, Subscription, Subscriptions,
};

/// What a packet asks of us.
enum Answer {
    Nothing,
    Acknowledge(PacketId),
    Receive(PacketId),
    Complete(PacketId),
}

/// Subscribes and prints until there were enough.
pub fn subscribe(task: &Subscribe) -> Result<(), Fatal> {
    let identity = Identity { client: task.client.as_deref(), persistent: task.persistent, silent: false };
    let mut link = Link::open(&task.to, identity)?;
    ask(&mut link, task)?;
    let mut printer = Printer { out: io::stdout().lock(), task, count: 0, held: HashSet::new() };
    while task.count == 0 || printer.count < task.count {
        let answer = link.next(|packet| printer.take(&packet))?;
        match answer {
            Answer::Nothing => {}
            Answer::Acknowledge(id) => link.push(&Packet::PubAck(Ack::success(id)))?,
            Answer::Receive(id) => link.push(&Packet::PubRec(Ack::success(id)))?,
            Answer::Complete(id) => link.push(&Packet::PubComp(Ack::success(id)))?,
        }
    }
    link.close()
}

fn ask(link: &mut Link, task: &Subscribe) -> Result<(), Fatal> {
    let Some(packet_id) = PacketId::new(1) else { return Ok(()) };
    let qos = Qos::from_bits(task.qos).unwrap_or_default();
    let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
    let filters: Vec<Subscription<'_>> =
        task.filters.iter().map(|filter| Subscription { filter, options }).collect();
    link.push(&Packet::Subscribe(codec::Subscribe {
        packet_id,
        properties: Properties::NONE,
        filters: Subscriptions::list(&filters),
    }))?;
    link.flush()
}

struct Printer<'t> {
    out: io::StdoutLock<'static>,
    task: &'t Subscribe,
    count: u64,
    held: HashSet<PacketId>,
}

impl Printer<'_> {
    fn take(&mut self, packet: &Packet<'_>) -> Result<Answer, Fatal> {
        match packet {
            Packet::Publish(message) => {
                let is_new = message.qos != Qos::ExactlyOnce
                    || message.packet_id.is_none_or(|packet_id| self.held.insert(packet_id));
                if is_new {
                    self.print(message)?;
                }
                Ok(match (message.qos, message.packet_id) {
                    (Qos::AtLeastOnce, Some(packet_id)) => Answer::Acknowledge(packet_id),
                    (Qos::ExactlyOnce, Some(packet_id)) => Answer::Receive(packet_id),
                    _ => Answer::Nothing,
                })
            }
            Packet::PubRel(ack) => {
                self.held.remove(&ack.packet_id);
                Ok(Answer::Complete(ack.packet_id))
            }
            Packet::SubAck(answer) => {
                let refused =
                    answer.reasons.iter().zip(&self.task.filters).find(|(reason, _)| reason.is_failure());
                match refused {
                    Some((reason, filter)) => {
                        Err(Fatal(format!("the broker refused {filter}: {}", words(reason))))
                    }
                    None => Ok(Answer::Nothing),
                }
            }
            _ => Ok(Answer::Nothing),
        }
    }

    fn print(&mut self, message: &codec::Publish<'_>) -> Result<(), Fatal> {
        self.count += 1;
        let topic = if self.task.verbose { message.topic } else { b"" };
        let space: &[u8] = if self.task.verbose { b" " } else { b"" };
        let parts = [topic, space, message.payload, b"\n"];
        let written = parts.iter().try_for_each(|part| self.out.write_all(part));
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Fatal("nobody reads the output any more".into()),
            _ => Fatal::system("cannot write the output", &error),
        })
    }
}
