//! Every exchange, queue, binding and argument on the broker.
