//! The link over RabbitMQ.
