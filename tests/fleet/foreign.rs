//! What a foreign AMQP client does.

use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};

use crate::support::within;

async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(&url.replace("/?", "/%2f?"), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

pub(crate) async fn publish(url: &str, exchange: &str, key: &str, payload: &[u8]) {
    let (_connection, channel) = channel(url).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let options = BasicPublishOptions {
        mandatory: true,
        immediate: false,
    };
    let confirmation = channel
        .basic_publish(
            exchange.into(),
            key.into(),
            options,
            payload,
            BasicProperties::default(),
        )
        .await
        .unwrap()
        .await
        .unwrap();
    assert_eq!(confirmation, lapin::Confirmation::Ack(None));
}

/// Publishes with properties, and returns the reason if the broker refuses it.
pub(crate) async fn try_publish(
    url: &str,
    exchange: &str,
    key: &str,
    payload: &[u8],
    properties: BasicProperties,
) -> Option<String> {
    let (_connection, channel) = channel(url).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let options = BasicPublishOptions::default();
    let published = channel.basic_publish(exchange.into(), key.into(), options, payload, properties);
    let confirmed = match published.await {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    confirmed.err().map(|error| error.to_string())
}

/// Binds a queue of its own to a topic exchange, and hears all that comes by it.
pub(crate) async fn listen(url: &str, exchange: &str) -> (Connection, Consumer) {
    let queue = format!("listens-{}", uuid::Uuid::new_v4().simple());
    let (connection, consumer) = consume_own(url, &queue).await;
    let channel = connection.create_channel().await.unwrap();
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind(
        queue.into(),
        exchange.into(),
        "#".into(),
        options,
        FieldTable::default(),
    );
    bound.await.unwrap();
    (connection, consumer)
}

/// Returns all that a message says about itself, as text.
pub(crate) fn told_of(properties: &BasicProperties) -> String {
    let headers = properties.headers().as_ref().map_or_else(String::new, told_of_table);
    format!("{:?} {headers}", properties.clone().with_headers(FieldTable::default()))
}

fn told_of_table(table: &FieldTable) -> String {
    let entries = table.inner().iter();
    let entries = entries.map(|(key, value)| format!("{key}={}", told_of_value(value)));
    entries.collect::<Vec<_>>().join(" ")
}

fn told_of_value(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => text.to_string(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::FieldTable(table) => told_of_table(table),
        AMQPValue::FieldArray(values) => {
            let values = values.as_slice().iter().map(told_of_value);
            values.collect::<Vec<_>>().join(" ")
        }
        other => format!("{other:?}"),
    }
}

pub(crate) async fn take(url: &str, queue: &str) -> Delivery {
    let (connection, channel) = channel(url).await;
    let consumer = channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    next((connection, consumer)).await
}

pub(crate) async fn consume_own(url: &str, queue: &str) -> (Connection, Consumer) {
    let (connection, channel) = channel(url).await;
    let options = QueueDeclareOptions::exclusive();
    channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await
        .unwrap();
    let consumer = channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    (connection, consumer)
}

pub(crate) async fn next((_connection, mut consumer): (Connection, Consumer)) -> Delivery {
    within("a delivery", consumer.next()).await.unwrap().unwrap()
}

pub(crate) async fn declare(url: &str, queue: &str) {
    let (_connection, channel) = channel(url).await;
    let options = QueueDeclareOptions::durable();
    channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await
        .unwrap();
}

pub(crate) async fn delete(url: &str, queue: &str) {
    let (_connection, channel) = channel(url).await;
    channel
        .queue_delete(queue.into(), QueueDeleteOptions::default())
        .await
        .unwrap();
}
