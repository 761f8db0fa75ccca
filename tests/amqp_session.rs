//! AMQP 0-9-1 sessions as transcripts: frames in, frames out, no socket.

#[path = "support/broker.rs"]
mod broker;
#[path = "amqp_session/connection.rs"]
mod connection;
#[path = "amqp_session/consuming.rs"]
mod consuming;
#[path = "amqp_session/crossing.rs"]
mod crossing;
#[path = "amqp_session/hostile.rs"]
mod hostile;
#[path = "amqp_session/publishing.rs"]
mod publishing;
#[path = "support/amqp.rs"]
mod support;
#[path = "amqp_session/topology.rs"]
mod topology;
