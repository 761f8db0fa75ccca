//! MQTT: the room.
//!
//! `codec` turns bytes into packets and back, for 3.1.1 and 5.0; `session` is one client's
//! connection, so far for 3.1.1; `inbound` is what the client publishes and asks for,
//! `outbound` what is delivered to it, `pending` the confirms that wait for the flash.
//!
//! | Forebay | MQTT |
//! |---|---|
//! | exchange `amq.topic` | the topic space |
//! | binding | subscription; the granted QoS is its grade |
//! | queue `mqtt.CLIENT` | session; durable if clean session is 0 |
//! | offset | packet id of a delivery: the offset modulo 65,535, plus 1 |
//! | in flight | sent and not acknowledged |
//! | held dedup key | packet id of an inbound QoS 2 publish, from PUBLISH to PUBREL |
//!
//! A packet id that follows from the offset needs no memory: after a restart of either side the
//! same message has the same id, as [MQTT-4.4.0-1] demands.
//!
//! Confirms: PUBACK, PUBREC, PUBREL, PUBCOMP and SUBACK of what is to be kept are written when
//! the record behind them is on flash, in the order the packets came [MQTT-4.6.0-2].
//!
//! Limits: `mqtt.max_packet_size`, `mqtt.max_inflight`, `mqtt.max_session_queue`.

pub mod codec;
mod inbound;
mod outbound;
mod pending;
mod session;

pub use outbound::write_direct;
pub use session::{MqttSession, Settings, Shared};
