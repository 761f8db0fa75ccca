//! A bounded part of every systematic campaign.

use forebay::gateway::torture::campaign::{every_byte, Bounds};

#[test]
fn power_cut_at_every_byte_keeps_what_was_durable() {
    let bounds = Bounds { threads: 2, ..Bounds::ALL };
    let stats = every_byte::run(&bounds, 1).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{stats}");
    assert!(stats.cuts > 500_000, "{stats}");
}
