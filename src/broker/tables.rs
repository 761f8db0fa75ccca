//! Queues in the tables: made, compared, forgotten, without the log.

use super::dead::NAME_MAX;
use super::meta::{traits, QueueMeta};
use super::state::State;
use crate::command::{QueueKind, QueueOptions, Refusal};
use crate::model::bond::Target;
use crate::model::key::{Form, Key};
use crate::model::queue::{Life, Policy, Queue, NONE, NO_TTL};
use crate::model::ready::MAX_LANE;
#[cfg(feature = "gateway")]
use crate::model::tenancy::Serving;
use crate::model::tenancy::Tenancy;
use crate::model::text::TextId;
use crate::units::{Offset, QueueId};

#[cfg(feature = "gateway")]
fn tenancy_of(options: &QueueOptions<'_>) -> Tenancy {
    let serving = if options.single_active { Serving::Single } else { Serving::Turns };
    let &QueueOptions { exclusive, expires_ms, dedup, .. } = options;
    Tenancy { exclusive, expires_ms, serving, dedup, ..Tenancy::NONE }
}

#[cfg(not(feature = "gateway"))]
fn tenancy_of(_: &QueueOptions<'_>) -> Tenancy {
    Tenancy::NONE
}

/// A stream has one lane: its groups read it in the order of its offsets.
fn highest_lane(options: &QueueOptions<'_>) -> u8 {
    match options.kind {
        QueueKind::Stream => 0,
        _ => options.max_priority.min(MAX_LANE),
    }
}

impl State<'_> {
    pub(super) fn is_as_asked(&self, queue: &Queue, options: &QueueOptions<'_>) -> bool {
        let policy = &queue.policy;
        let same_text = |text: Option<TextId>, asked: Option<&[u8]>, form| match (text, asked) {
            (Some(text), Some(asked)) => self.texts.equals(text, asked, form),
            (None, None) => true,
            _ => false,
        };
        let key = options.dead_letter_key;
        policy.kind == options.kind
            && policy.durable == options.durable
            && policy.auto_delete == options.auto_delete
            && policy.session == options.session
            && queue.tenancy.exclusive() == options.exclusive
            && queue.tenancy.expires_ms() == options.expires_ms
            && queue.tenancy.is_single() == options.single_active
            && queue.tenancy.asks_identity() == options.dedup
            && policy.overflow == options.overflow
            && policy.delivery_limit == options.delivery_limit
            && policy.max_priority == highest_lane(options)
            && policy.max_count == options.max_count
            && policy.max_bytes == options.max_bytes
            && policy.ttl_ms == options.ttl_ms.unwrap_or(NO_TTL)
            && policy.lease_ms == options.lease_ms
            && same_text(
                policy.dead_letter_exchange,
                options.dead_letter_exchange.map(str::as_bytes),
                Form::Dots,
            )
            && same_text(policy.dead_letter_key.map(|(text, _)| text), key.map(|key| key.text), Form::Dots)
    }

    pub(super) fn add_queue(&mut self, name: &str, options: &QueueOptions<'_>) -> Result<QueueId, Refusal> {
        if let QueueKind::Group { stream } = options.kind {
            // A group does not outlast its stream.
            let outlasts = |stream: &Queue| options.durable && !stream.policy.durable;
            if !self.queues.get(stream).is_some_and(|stream| stream.is_stream() && !outlasts(stream)) {
                return Err(Refusal::NotAllowed);
            }
        }
        let policy = self.policy_of(options)?;
        let Ok(text) = self.texts.store(Key::dots(name.as_bytes())) else {
            self.free_policy(&policy);
            return Err(Refusal::Limit("names"));
        };
        let Some(id) = self.queues.allocate() else {
            self.texts.free(text);
            self.free_policy(&policy);
            return Err(Refusal::Limit("queues"));
        };
        let hash = self.name_hash(name);
        let start = match options.kind {
            QueueKind::Group { stream } => self.group_start(stream, options.start),
            _ => None,
        };
        if let Some(place) = self.queues.place_mut(id) {
            let next = place.next;
            let exposed = Offset(0);
            *place = Queue {
                life: Life::Live,
                name: Some(text),
                policy,
                born: next,
                next,
                exposed,
                tenancy: tenancy_of(options),
                ..Queue::EMPTY
            };
            place.first = next;
            if let Some(start) = start {
                place.born = Offset(0);
                place.next = start;
                place.first = start;
            }
        }
        self.queues.index(id, hash);
        self.link_group(id);
        Ok(id)
    }

    fn group_start(&self, stream: QueueId, asked: Offset) -> Option<Offset> {
        let stream = self.queues.get(stream)?;
        #[cfg(feature = "gateway")]
        let asked = Offset(asked.0.saturating_add(stream.born.0));
        Some(asked.max(stream.first).min(stream.next))
    }

    /// Takes back a queue that could not be written.
    pub(super) fn drop_queue(&mut self, id: QueueId) {
        self.unlink_group(id);
        self.queues.unindex(id);
        self.free_texts(id);
        self.queues.release(id);
    }

    pub(super) fn free_texts(&mut self, id: QueueId) {
        let Some(queue) = self.queues.place_mut(id) else { return };
        let key = queue.policy.dead_letter_key.take().map(|(text, _)| text);
        let texts = [queue.name.take(), queue.policy.dead_letter_exchange.take(), key];
        texts.into_iter().flatten().for_each(|text| self.texts.free(text));
    }

    fn free_policy(&mut self, policy: &Policy) {
        policy.dead_letter_exchange.into_iter().for_each(|text| self.texts.free(text));
        policy.dead_letter_key.into_iter().for_each(|(text, _)| self.texts.free(text));
    }

    fn policy_of(&mut self, options: &QueueOptions<'_>) -> Result<Policy, Refusal> {
        let limit = Refusal::Limit("names");
        let mut policy = Policy {
            kind: options.kind,
            durable: options.durable,
            auto_delete: options.auto_delete,
            session: options.session,
            overflow: options.overflow,
            delivery_limit: options.delivery_limit,
            max_priority: highest_lane(options),
            max_count: options.max_count,
            max_bytes: options.max_bytes,
            ttl_ms: options.ttl_ms.unwrap_or(NO_TTL),
            lease_ms: options.lease_ms,
            dead_letter_exchange: None,
            dead_letter_key: None,
        };
        let too_long = |text: &[u8]| text.len() > NAME_MAX;
        if options.dead_letter_exchange.is_some_and(|name| too_long(name.as_bytes()))
            || options.dead_letter_key.is_some_and(|key| too_long(key.text))
        {
            return Err(Refusal::Malformed);
        }
        if let Some(name) = options.dead_letter_exchange {
            policy.dead_letter_exchange =
                Some(self.texts.store(Key::dots(name.as_bytes())).map_err(|_| limit)?);
        }
        if let Some(key) = options.dead_letter_key {
            match self.texts.store(Key::dots(key.text)) {
                Ok(text) => policy.dead_letter_key = Some((text, key.form)),
                Err(_) => {
                    self.free_policy(&policy);
                    return Err(limit);
                }
            }
        }
        Ok(policy)
    }

    /// The policies in a record.
    pub(super) fn policy_of_meta(&mut self, meta: &QueueMeta<'_>) -> Result<(Policy, Tenancy), Refusal> {
        let key = meta
            .dead_letter_key
            .map(|(text, slashes)| Key { text, form: if slashes { Form::Slashes } else { Form::Dots } });
        let options = QueueOptions {
            kind: meta.kind,
            durable: true,
            auto_delete: meta.auto_delete,
            exclusive: 0,
            single_active: meta.traits & traits::SINGLE_ACTIVE != 0,
            dedup: meta.traits & traits::DEDUP != 0,
            expires_ms: meta.expires_ms,
            session: meta.session,
            max_count: meta.max_count,
            max_bytes: meta.max_bytes,
            overflow: meta.overflow,
            ttl_ms: meta.ttl_ms,
            delivery_limit: meta.delivery_limit,
            max_priority: meta.max_priority,
            lease_ms: meta.lease_ms,
            dead_letter_exchange: meta.dead_letter_exchange,
            dead_letter_key: key,
            start: Offset(0),
        };
        Ok((self.policy_of(&options)?, tenancy_of(&options)))
    }

    /// Enters a group into the list of its stream, once.
    pub(super) fn link_group(&mut self, id: QueueId) {
        let Some(stream) = self.queues.get(id).and_then(Queue::stream) else { return };
        let mut next = self.queues.place(stream).map_or(NONE, |stream| stream.group);
        let first = next;
        while let Some(group) = self.queues.place(QueueId(next)).filter(|_| next != NONE) {
            if next == id.0 {
                return;
            }
            next = group.group;
        }
        if let Some(group) = self.queues.place_mut(id) {
            group.group = first;
        }
        if let Some(stream) = self.queues.place_mut(stream) {
            stream.group = id.0;
        }
    }

    /// Takes a group out of the list of its stream.
    pub(super) fn unlink_group(&mut self, id: QueueId) {
        let Some((stream, after)) =
            self.queues.get(id).and_then(|queue| Some((queue.stream()?, queue.group)))
        else {
            return;
        };
        let mut before = stream;
        while let Some(place) = self.queues.place_mut(before) {
            if place.group == id.0 {
                place.group = after;
                return;
            }
            before = QueueId(place.group);
        }
    }

    /// Forgets a queue while a log is played back.
    pub(super) fn forget_queue(&mut self, id: QueueId) {
        self.bindings.remove_destination(Target::Queue(id), &mut |_, _| {});
        self.dedup.forget_queue(id);
        if self.queues.get(id).is_some() {
            self.unlink_group(id);
            self.queues.unindex(id);
            self.free_texts(id);
        }
        while let Some(slot) = self.queues.place(id).and_then(|queue| self.pages.any_live(&queue.roots)) {
            self.remove_restored(id, slot);
        }
        if let Some(place) = self.queues.place_mut(id) {
            *place = Queue { next: place.next, born: place.next, ..Queue::EMPTY };
        }
    }
}
