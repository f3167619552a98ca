//! What a foreign AMQP client does.

use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
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
