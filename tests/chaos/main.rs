//! The share of chaos that the gate can afford: 60 faults, 45 of them on one node and 15 on a cluster of three. And takeovers, one by one.

mod one_node_faults;
mod takeover_faults;
mod three_nodes_faults;
