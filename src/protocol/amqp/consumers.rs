//! The consumers of a connection, by their number in the broker.
//!
//! ```text
//! announcing --consume-ok sent--> running --basic.cancel--> ending --last delivery settled--> gone
//! ```
//! A cancelled consumer whose deliveries are not settled stays in the broker, paused, until they are: AMQP
//! lets a client acknowledge after basic.cancel. A consumer that only fetches (basic.get) stands in the same
//! table, so that its deliveries are settled like any others.

use crate::units::{ConsumerId, QueueId};

/// What a consumer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its consume-ok waits behind an answer that waits for the flash.
    Announcing,
    /// It takes deliveries.
    Running,
    /// It was cancelled, and has deliveries that are not settled.
    Ending,
    /// It takes what basic.get asks for.
    Fetching,
}

/// When a delivery that is given back comes again, as its consumer asked with `x-delayed-retry-min`
/// and `x-delayed-retry-max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// After this time the first time, twice that the second.
    pub min_ms: u64,
    /// After no more than this.
    pub max_ms: u64,
}

impl Retry {
    /// The delay after so many deliveries before.
    pub fn delay_ms(self, delivery_count: u8) -> u64 {
        self.min_ms.saturating_mul(u64::from(delivery_count) + 1).min(self.max_ms)
    }
}

/// A consumer.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Its number in the broker.
    pub id: ConsumerId,
    /// Its channel.
    pub channel: u16,
    /// Its name there; none if it fetches.
    pub tag: Box<str>,
    /// The queue it was asked for.
    pub queue: QueueId,
    /// What it is about.
    pub state: State,
    /// Its deliveries are done when sent.
    pub no_ack: bool,
    /// It reads a stream: deliveries tell their offset.
    pub is_stream: bool,
    /// When what it gives back comes again.
    pub retry: Option<Retry>,
    /// Deliveries that are not settled.
    pub unsettled: u32,
}

/// A basic.get that waits for the flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Its channel.
    pub channel: u16,
    /// The consumer that fetches.
    pub consumer: ConsumerId,
}

/// All consumers of a connection, ordered by number.
#[derive(Default)]
pub struct Consumers {
    list: Vec<Consumer>,
    fetches: Vec<Fetch>,
}

impl Consumers {
    /// The consumer of a number.
    pub fn find(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        let place = self.place(id).ok()?;
        self.list.get_mut(place)
    }

    fn place(&self, id: ConsumerId) -> Result<usize, usize> {
        self.list.binary_search_by_key(&id, |consumer| consumer.id)
    }

    /// The consumer of a name on a channel.
    pub fn named(&self, channel: u16, tag: &str) -> Option<ConsumerId> {
        let is_it = |consumer: &&Consumer| {
            let is_named = !matches!(consumer.state, State::Ending | State::Fetching);
            is_named && consumer.channel == channel && *consumer.tag == *tag
        };
        self.list.iter().find(is_it).map(|consumer| consumer.id)
    }

    /// The consumer that fetches from a queue for a channel.
    pub fn fetching(&self, channel: u16, queue: QueueId, no_ack: bool) -> Option<ConsumerId> {
        let is_it = |consumer: &&Consumer| {
            consumer.state == State::Fetching
                && consumer.channel == channel
                && consumer.queue == queue
                && consumer.no_ack == no_ack
        };
        self.list.iter().find(is_it).map(|consumer| consumer.id)
    }

    /// Adds one.
    pub fn insert(&mut self, consumer: Consumer) {
        match self.place(consumer.id) {
            // The broker has given the number of one that is gone to a new one.
            Ok(place) => {
                if let Some(before) = self.list.get_mut(place) {
                    *before = consumer;
                }
            }
            Err(place) => self.list.insert(place, consumer),
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, id: ConsumerId) -> Option<Consumer> {
        let place = self.place(id).ok()?;
        self.fetches.retain(|fetch| fetch.consumer != id);
        Some(self.list.remove(place))
    }

    /// How many were started and not cancelled.
    pub fn started_count(&self) -> usize {
        let is_started = |consumer: &&Consumer| !matches!(consumer.state, State::Ending | State::Fetching);
        self.list.iter().filter(is_started).count()
    }

    /// The first of a channel.
    pub fn first_of(&self, channel: u16) -> Option<ConsumerId> {
        self.list.iter().find(|consumer| consumer.channel == channel).map(|consumer| consumer.id)
    }

    /// Those of a channel that take deliveries.
    pub fn running_on(&self, channel: u16) -> impl Iterator<Item = ConsumerId> + '_ {
        let is_running = move |consumer: &&Consumer| {
            consumer.channel == channel && matches!(consumer.state, State::Running)
        };
        self.list.iter().filter(is_running).map(|consumer| consumer.id)
    }

    /// Lets those start that waited for their consume-ok.
    pub fn start_announced(&mut self, mut started: impl FnMut(ConsumerId)) {
        for consumer in self.list.iter_mut().filter(|consumer| consumer.state == State::Announcing) {
            consumer.state = State::Running;
            started(consumer.id);
        }
    }

    /// A basic.get waits.
    pub fn push_fetch(&mut self, fetch: Fetch) {
        self.fetches.push(fetch);
    }

    /// Those that wait, to be tried again.
    pub fn take_fetches(&mut self) -> Vec<Fetch> {
        std::mem::take(&mut self.fetches)
    }

    /// A basic.get waits for the flash.
    pub fn is_fetching(&self) -> bool {
        !self.fetches.is_empty()
    }
}
