//! Looking: everything that is in a broker, as its browser tells it.

use super::body::number_of;
use super::nouns::{self, NOUNS, TOPICS};
use crate::broker::Broker;
use crate::command::{Standee, Standing, Which};
use crate::flash::Flash;
use crate::log::ReadError;
use crate::units::{Millis, Offset, QueueId};

/// The number of a message that a group waits for and its stream has dropped.
pub const GONE: u32 = u32::MAX;

/// A message in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenItem {
    /// Its offset.
    pub offset: u64,
    /// Its number.
    pub message: u32,
    /// It waits until then.
    pub waits: Option<Millis>,
    /// It was handed out.
    pub in_flight: bool,
    /// How often, as far as that is known.
    pub deliveries: u8,
    /// The receiver has it.
    pub received: bool,
    /// It may have been handed out before.
    pub redelivered: bool,
    /// The log says that it survives a loss of power.
    pub certain: bool,
}

/// A queue with its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenQueue {
    /// Its id.
    pub id: u16,
    /// The next offset.
    pub next: u64,
    /// Of a group: messages of its stream that it has not handed out.
    pub lag: u64,
    /// Its messages, by offset.
    pub items: Vec<SeenItem>,
}

/// A broker's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// By noun.
    pub queues: [Option<SeenQueue>; NOUNS],
    /// By topic.
    pub retained: [Option<u32>; 4],
}

impl Seen {
    /// Without what means nothing at this time: a delay that is over, and how often something was tried
    /// where that does not matter.
    pub fn in_essence(&self, now: Millis) -> Seen {
        let mut seen = self.clone();
        for (noun, queue) in nouns::ALL.iter().zip(&mut seen.queues) {
            // What its stream has dropped is nothing to a group.
            queue.iter_mut().for_each(|queue| queue.items.retain(|item| item.message != GONE));
            for item in queue.iter_mut().flat_map(|queue| &mut queue.items) {
                item.waits = item.waits.filter(|&until| until > now);
                item.certain = true;
                if noun.options.delivery_limit == 0 {
                    item.deliveries = 0;
                }
            }
        }
        seen
    }
}

/// Looks at everything; says what cannot be.
pub fn look<F: Flash>(broker: &mut Broker<'_, F>) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut heads = Vec::new();
    let mut strange = None;
    broker.for_each_queue(&mut |queue| match nouns::find(queue.name) {
        Some(index) => {
            let counts = queue.ready + queue.in_flight + queue.delayed;
            heads.push((index, counts));
            let head = SeenQueue { id: queue.id.0, next: queue.next.0, lag: queue.lag, items: Vec::new() };
            if seen.queues[index].replace(head).is_some() {
                strange = Some(format!("two queues are named {}", queue.name));
            }
        }
        None => strange = Some(format!("a queue is named {:?}", queue.name)),
    });
    if let Some(strange) = strange {
        return Err(strange);
    }
    let mut entries = 0;
    for (index, counted) in heads {
        let Some(queue) = &mut seen.queues[index] else { continue };
        let name = nouns::ALL[index].name;
        let is_group = nouns::ALL[index].stream.is_some();
        walk(broker, queue, is_group).map_err(|error| format!("{name}: {error}"))?;
        if queue.items.len() != counted as usize {
            return Err(format!("{name}: {} messages, counted {counted}", queue.items.len()));
        }
        if nouns::ALL[index].stream.is_none() {
            entries += queue.items.len() as u64;
        }
    }
    retained(broker, &mut seen)?;
    balance(broker, entries)?;
    Ok(seen)
}

fn walk<F: Flash>(broker: &mut Broker<'_, F>, queue: &mut SeenQueue, is_group: bool) -> Result<(), String> {
    let base = broker.base_of(QueueId(queue.id)).0;
    let mut from = Offset(0);
    while let Some((next, standee)) = broker.browse(QueueId(queue.id), from, Which::Any) {
        from = next;
        let Some(standee) = standee else { continue };
        let offset = standee.offset.0 + base;
        let message = match standee.content {
            Ok(content) => number_of(content.message.body)
                .ok_or_else(|| format!("offset {offset} has a body nobody published"))?,
            // Its stream has dropped it meanwhile.
            Err(ReadError::Gone) if is_group => GONE,
            Err(error) => {
                let at = standee.at;
                return Err(format!("offset {offset} at {at} is {error:?}: {:?}", broker.info().log));
            }
        };
        let standee = Standee { content: Err(ReadError::Gone), ..standee };
        queue.items.push(SeenItem {
            offset,
            message,
            waits: match standee.standing {
                Standing::Delayed(until) => Some(until),
                _ => None,
            },
            in_flight: standee.standing == Standing::InFlight,
            deliveries: standee.deliveries,
            received: standee.received,
            redelivered: standee.redelivered,
            certain: broker.is_durable(standee.at),
        });
    }
    if !queue.items.is_sorted_by(|one, next| one.offset < next.offset) {
        return Err("an offset is there twice, or not in its place".into());
    }
    match queue.items.last() {
        Some(last) if last.offset >= queue.next => Err(format!("offset {} is not below next", last.offset)),
        _ => Ok(()),
    }
}

fn retained<F: Flash>(broker: &mut Broker<'_, F>, seen: &mut Seen) -> Result<(), String> {
    let mut cursor = 0;
    while let Some((next, content)) = broker.browse_retained(cursor) {
        cursor = next;
        let Some(content) = content else { continue };
        let content = content.map_err(|error| format!("a retained value is {error:?}"))?;
        let key = content.message.key.text;
        let topic = TOPICS.iter().position(|topic| topic.as_bytes() == key);
        let topic = topic.ok_or_else(|| format!("a value of key {key:?} is retained"))?;
        let message = number_of(content.message.body).ok_or("a retained body nobody published")?;
        if seen.retained[topic].replace(message).is_some() {
            return Err(format!("two values of {} are retained", TOPICS[topic]));
        }
    }
    Ok(())
}

/// What is live, dead and free is all there is.
fn balance<F: Flash>(broker: &Broker<'_, F>, entries: u64) -> Result<(), String> {
    let info = broker.info();
    let segment = u64::from(broker.device().geometry().segment_size);
    let free = u64::from(info.log.free_segments) * segment;
    let bad = u64::from(info.log.bad_segments) * segment;
    // A segment that is bad may lie among the used ones.
    let all = info.log.used + free;
    if all > info.log.capacity || all + bad < info.log.capacity {
        let log = info.log;
        return Err(format!("used {} + free {free} + bad {bad} are not {}", log.used, log.capacity));
    }
    if info.live_bytes > info.log.used {
        return Err(format!("{} bytes are live of {} used", info.live_bytes, info.log.used));
    }
    // Messages of deleted queues are let go of later.
    if info.entries < entries {
        return Err(format!("{} entries are counted, {entries} are there", info.entries));
    }
    Ok(())
}
