//! AMQP 0-9-1 sessions as transcripts: frames in, frames out, no socket.

#[path = "support/broker.rs"]
mod broker;
#[path = "amqp_session/connection.rs"]
mod connection;
#[path = "amqp_session/consuming.rs"]
mod consuming;
#[path = "amqp_session/crossing.rs"]
mod crossing;
#[path = "amqp_session/dead_letters.rs"]
mod dead_letters;
#[path = "amqp_session/hostile.rs"]
mod hostile;
#[path = "amqp_session/long_names.rs"]
mod long_names;
#[path = "amqp_session/permissions.rs"]
mod permissions;
#[path = "amqp_session/publishing.rs"]
mod publishing;
#[path = "support/amqp.rs"]
mod support;
#[path = "amqp_session/topology.rs"]
mod topology;
