//! One life of a broker: from a mount until power goes, each of its calls held against the model.
//!
//! ```text
//! call -> what was handed out -> is it right?
//!      -> steps it took       -> are they bounded?
//!      -> counters moved      -> look at everything: may it have moved?
//! ```

use super::body;
use super::history::Step;
use super::live::{Arrival, Leave, Taken};
use super::look::{look, Seen};
use super::model::{Check, Model};
use super::nouns::ALL;
use super::simulator::Stats;
use crate::broker::{Broker, Counters};
use crate::command::{Command, Delivery, Grade, Offer, Outlet, Refusal, Reply};
use crate::flash::fault::{FaultFlash, Meter};
use crate::time;
use crate::units::{ConsumerId, Millis, QueueId};

/// Most that one call may do to the device, in segments' worth of bytes, and in calls.
const SEGMENTS_MAX: u64 = 8;
/// Most erases of one call.
const ERASES_MAX: u64 = 8;
/// Most reads of one call.
const READS_MAX: u64 = 4_000;
/// Log time is written so often at least.
const ANCHOR_MS: u64 = 60_000;

/// A consumer.
#[derive(Clone, Copy, Debug)]
pub struct Consumer {
    /// What the broker calls it.
    pub id: ConsumerId,
    /// The noun it consumes.
    pub queue: usize,
    /// Most deliveries at a time.
    pub credit: u32,
    /// It acknowledges nothing.
    pub no_ack: bool,
    /// It cannot take more.
    pub paused: bool,
}

/// Takes what is handed out; now and then it is busy.
#[derive(Debug, Default)]
pub struct Inbox {
    /// What was taken.
    pub taken: Vec<Taken>,
    /// Consumers that were busy.
    pub busy: Vec<u64>,
    /// Consumers whose queue is gone.
    pub cancelled: Vec<u64>,
    /// How many more it takes before it is busy.
    pub room: u32,
}

impl Outlet for Inbox {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer {
        if self.room == 0 {
            self.busy.push(delivery.owner);
            return Offer::Busy;
        }
        self.room -= 1;
        self.taken.push(Taken {
            owner: delivery.owner,
            queue: delivery.queue.0,
            offset: delivery.offset.map(|offset| offset.0),
            tag: delivery.tag.map(|tag| tag.0),
            message: body::number_of(delivery.message.body),
            redelivered: delivery.redelivered,
            received: delivery.received,
            retained: delivery.retained,
            count: delivery.delivery_count,
            published: delivery.published,
        });
        Offer::Taken
    }

    fn cancelled(&mut self, owner: u64, _: ConsumerId) {
        self.cancelled.push(owner);
    }
}

/// The clocks of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clocks {
    /// Since the machine was made.
    pub mono_ms: u64,
    /// What the wall clock says.
    pub unix_ms: u64,
    /// It stands still.
    pub is_frozen: bool,
}

/// A broker that runs.
pub struct Life<'t> {
    /// It.
    pub broker: Broker<'t, &'t mut FaultFlash>,
    /// What it has to hold.
    pub model: &'t mut Model,
    /// What happened.
    pub stats: &'t mut Stats,
    /// The machine's clocks.
    pub clocks: &'t mut Clocks,
    /// What was done, if anybody wants to know.
    pub trace: &'t mut Option<Vec<String>>,
    /// Who consumes.
    pub consumers: Vec<Option<Consumer>>,
    /// What is handed out.
    pub inbox: Inbox,
    /// Log time.
    pub now: Millis,
    clock: time::Clock,
    counted: Counters,
    meter: Meter,
    cover: Option<(Step, Millis)>,
}

impl<'t> Life<'t> {
    /// Begins with a broker that was just mounted.
    pub fn new(
        broker: Broker<'t, &'t mut FaultFlash>,
        last: Millis,
        model: &'t mut Model,
        stats: &'t mut Stats,
        clocks: &'t mut Clocks,
        trace: &'t mut Option<Vec<String>>,
    ) -> Life<'t> {
        let counted = broker.info().counters;
        let meter = broker.device().meter();
        let clock = time::Clock::new(last, clocks.mono_ms);
        let cover = (!broker.is_closed()).then_some((model.step, Millis(0)));
        let mut life = Life {
            broker,
            model,
            stats,
            clocks,
            trace,
            consumers: Vec::new(),
            inbox: Inbox { room: u32::MAX, ..Inbox::default() },
            now: last,
            clock,
            counted,
            meter,
            cover,
        };
        life.tick(0);
        life
    }

    /// Time passes.
    pub fn tick(&mut self, passed_ms: u64) {
        self.clocks.mono_ms += passed_ms;
        let shown_ms = if self.clocks.is_frozen { 0 } else { passed_ms };
        self.clocks.unix_ms = self.clocks.unix_ms.saturating_add(shown_ms);
        self.now = self.clock.tick(self.clocks.mono_ms, self.clocks.unix_ms);
        self.model.latest = self.model.latest.max(self.now);
    }

    /// Says what is done.
    pub fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = self.trace {
            trace.push(format!("{:>4} {} {}", self.model.step, self.now, what()));
        }
    }

    /// The power is gone.
    pub fn is_cut(&self) -> bool {
        self.broker.device().is_cut()
    }

    /// Executes a command. None if the power went.
    pub fn execute(&mut self, command: Command<'_>) -> Result<Option<Result<Reply, Refusal>>, String> {
        let reply = self.broker.execute(self.now, command, &mut self.inbox);
        self.tell(|| format!("  {reply:?}"));
        self.is_bounded("a command")?;
        Ok((!self.is_cut()).then_some(reply))
    }

    /// Everything that one call did is held against what it may do.
    pub fn after(&mut self, arrivals: &[Arrival], leave: &Leave) -> Check {
        self.take_in()?;
        if self.is_cut() {
            self.model.arrive_in_the_dark(arrivals);
            self.model.cut(leave);
            return Ok(());
        }
        if self.broker.is_read_only() {
            return Err("the store takes no more writes, and nothing was wrong".into());
        }
        let counters = self.broker.info().counters;
        let moved = |counters: &Counters| (counters.dropped, counters.dead_lettered, counters.expired);
        let is_moved = moved(&counters) != moved(&self.counted);
        let damaged = counters.damaged > 0;
        if counters.unwritten > self.counted.unwritten {
            self.stats.unwritten += counters.unwritten - self.counted.unwritten;
            self.model.doubt();
        }
        self.counted = counters;
        if damaged {
            return Err("something is damaged, and nothing was".into());
        }
        if is_moved || arrivals.iter().any(|arrival| arrival.perhaps) || leave.rejected.is_some() {
            return self.compare(arrivals, leave);
        }
        self.model.arrive(arrivals);
        Ok(())
    }

    /// Looks at everything and holds it against the model.
    pub fn compare(&mut self, arrivals: &[Arrival], leave: &Leave) -> Check {
        self.stats.looks += 1;
        let seen = self.look()?;
        self.model.compare(&seen, arrivals, leave)
    }

    /// Looks at everything.
    pub fn look(&mut self) -> Result<Seen, String> {
        let seen = look(&mut self.broker);
        self.meter = self.broker.device().meter();
        seen
    }

    /// Holds what was handed out against the model.
    fn take_in(&mut self) -> Check {
        let mut taken = std::mem::take(&mut self.inbox.taken);
        let is_cut = self.is_cut();
        for taken in &mut taken {
            // The model counts as the log does, readers of a stream from its birth.
            let base = self.broker.base_of(QueueId(taken.queue)).0;
            taken.offset = taken.offset.map(|offset| offset + base);
            self.tell(|| format!("  {taken:?}"));
            self.stats.deliveries += 1;
            let consumer = self.consumers.get(taken.owner as usize).copied().flatten();
            let consumer = consumer.ok_or("a delivery goes to nobody")?;
            if taken.message.is_none() {
                return Err(format!("a body that nobody published comes from queue {}", taken.queue));
            }
            if is_cut {
                // Nobody can say whether that was before the power went or after.
                self.model.deliver_in_the_dark(taken);
                continue;
            }
            if taken.offset.is_none() {
                continue;
            }
            let noun = &ALL[consumer.queue];
            self.model.deliver(taken, self.now, noun.options.lease_ms, !consumer.no_ack)?;
        }
        for owner in std::mem::take(&mut self.inbox.busy) {
            if let Some(consumer) = self.consumers.get_mut(owner as usize).and_then(Option::as_mut) {
                consumer.paused = true;
            }
        }
        for owner in std::mem::take(&mut self.inbox.cancelled) {
            if let Some(consumer) = self.consumers.get_mut(owner as usize) {
                *consumer = None;
            }
        }
        Ok(())
    }

    /// What was done so far is not held against the bounds.
    pub fn forgive(&mut self) {
        self.meter = self.broker.device().meter();
    }

    /// No call does more than is bounded.
    fn is_bounded(&mut self, what: &str) -> Check {
        let geometry = crate::flash::Flash::geometry(*self.broker.device());
        // The sync after a mount erases what that found to be dead.
        let erases_max = if what == "a poll" { geometry.segment_count.into() } else { ERASES_MAX };
        let meter = self.broker.device().meter();
        let segment = u64::from(geometry.segment_size);
        let bytes = meter.programmed_bytes - self.meter.programmed_bytes;
        let (erases, reads) = (meter.erases - self.meter.erases, meter.reads - self.meter.reads);
        self.meter = meter;
        let stats = &mut self.stats;
        stats.most_bytes = stats.most_bytes.max(bytes * 100 / segment);
        stats.most_erases = stats.most_erases.max(erases);
        stats.most_reads = stats.most_reads.max(reads);
        if meter.misuses > 0 {
            return Err("the device was misused".into());
        }
        if bytes > SEGMENTS_MAX * segment || erases > erases_max || reads > READS_MAX {
            return Err(format!("{what} took {bytes} bytes, {erases} erases and {reads} reads"));
        }
        Ok(())
    }

    /// What may happen because time has passed.
    pub fn meanwhile(&self) -> Leave {
        Leave { now: self.now, returned: true, ..Leave::default() }
    }

    /// Hands out; true if there is more.
    pub fn pump(&mut self) -> Result<bool, String> {
        let more = self.broker.pump(self.now, &mut self.inbox);
        self.is_bounded("the pump")?;
        self.after(&[], &self.meanwhile())?;
        Ok(more)
    }

    /// Does what is due.
    pub fn time_out(&mut self) -> Check {
        self.broker.handle_timeout(self.now, &mut self.inbox);
        self.is_bounded("a timeout")?;
        self.after(&[], &self.meanwhile())
    }

    /// Writes, and perhaps begins a sync.
    pub fn commit(&mut self) -> Check {
        let was_idle = self.broker.is_closed();
        self.broker.commit(self.now);
        self.is_bounded("a commit")?;
        if was_idle && !self.broker.is_closed() {
            self.cover = Some((self.model.step, self.now));
            // What comes behind it is not covered, even within one action.
            self.model.step += 1;
        }
        self.after(&[], &self.meanwhile())
    }

    /// Asks whether the sync is over; true if it was.
    pub fn poll(&mut self) -> Result<bool, String> {
        let was_syncing = !self.broker.is_closed();
        self.broker.poll_durable();
        self.is_bounded("a poll")?;
        let is_over = was_syncing && self.broker.is_closed() && !self.broker.is_read_only();
        if let Some((step, then)) = self.cover.take_if(|_| is_over) {
            self.model.settle(step, self.broker.durable());
            let floor = Millis(then.0.saturating_sub(ANCHOR_MS));
            if !self.model.doubted {
                self.model.time_floor = self.model.time_floor.max(floor);
            }
        }
        self.after(&[], &self.meanwhile())?;
        Ok(is_over)
    }

    /// Ends the store in order.
    pub fn close(&mut self) -> Check {
        self.tell(|| "close".into());
        while !self.broker.is_closed() && !self.is_cut() {
            self.poll()?;
        }
        self.broker.close(self.now);
        self.is_bounded("the close")?;
        if !self.is_cut() && !self.broker.is_closed() {
            self.cover = Some((self.model.step, self.now));
        }
        while !self.broker.is_closed() && !self.is_cut() {
            self.poll()?;
        }
        Ok(())
    }

    /// Runs until nothing is left to be done, and sees that nothing was left undone.
    pub fn settle(&mut self) -> Check {
        for _ in 0..200 {
            if self.is_cut() {
                return Ok(());
            }
            let is_due = self.broker.poll_timeout() <= self.now;
            if is_due {
                self.time_out()?;
            }
            let more = self.pump()?;
            self.commit()?;
            let moved = self.poll()?;
            if !more && !moved && self.broker.is_closed() && self.broker.poll_timeout() > self.now {
                return self.is_served();
            }
        }
        Err("the broker does not come to rest".into())
    }

    /// Nobody waits for what is there.
    fn is_served(&mut self) -> Check {
        if self.is_cut() {
            return Ok(());
        }
        let info = self.broker.info();
        let in_flight_full = info.in_flight >= super::simulator::IN_FLIGHT;
        let mut hungry = [false; super::nouns::NOUNS];
        for consumer in self.consumers.iter().flatten().filter(|consumer| !consumer.paused) {
            let owed = self.model.shelves[consumer.queue].items.iter().filter(|item| item.flight.is_some());
            hungry[consumer.queue] |= consumer.no_ack || (owed.count() as u32) < consumer.credit;
        }
        let mut waits = None;
        self.broker.for_each_queue(&mut |queue| {
            let Some(noun) = super::nouns::find(queue.name) else { return };
            if queue.ready > 0 && hungry[noun] && !in_flight_full && ALL[noun].options.kind != STREAM {
                waits = Some(format!("{}: {} messages wait for nothing", queue.name, queue.ready));
            }
        });
        if let Some(waits) = waits {
            return Err(format!(
                "{waits}, {:?}",
                (&self.consumers, self.broker.durable(), self.broker.info())
            ));
        }
        let now = self.now;
        let is_asked_again = self.broker.poll_timeout() == now.after(1);
        for (noun, shelf) in ALL.iter().zip(&self.model.shelves) {
            // One without any time waits as long as somebody could take it, and a moment longer.
            let has_none = |item: &super::model::Item| {
                self.model.published.get(item.message as usize).is_some_and(|&at| at == item.expires)
            };
            let late =
                |item: &&super::model::Item| item.is_overdue(now) && !(is_asked_again && has_none(item));
            if let Some(item) = shelf.items.iter().find(late).filter(|_| noun.stream.is_none() && !noun.dead)
            {
                let due = self.broker.poll_timeout();
                return Err(format!(
                    "{}: offset {} expired at {}, due {due} {item:?}",
                    noun.name, item.offset, item.expires
                ));
            }
        }
        Ok(())
    }
}

const STREAM: crate::command::QueueKind = crate::command::QueueKind::Stream;

/// How surely a message is handed over, from a number.
pub fn grade(number: u64) -> Grade {
    match number % 10 {
        0 => Grade::AtMostOnce,
        1..=6 => Grade::AtLeastOnce,
        _ => Grade::ExactlyOnce,
    }
}
