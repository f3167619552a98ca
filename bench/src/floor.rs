//! lapin, bare: what the broker itself takes for a message to many and all their answers.
//!
//! One connection for each consumer, as replicas have; acknowledgements in batches, as replicas send them. Who writes to the stream
//! reads it too, as the coordinator does before it accepts a change.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_lite::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};

/// After how many deliveries a consumer acknowledges them.
const ACK_BATCH: u32 = 25;
/// How long a round may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is sent, and what comes back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) message: usize,
    pub(crate) answer: usize,
}

/// How a message gets to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Transient, through a fanout into a queue for each.
    Fanout,
    /// Stored and confirmed in one stream that each reads.
    Stream,
}

/// Consumers that answer every message, and who sends it.
pub(crate) struct Floor {
    way: Way,
    name: String,
    message: Vec<u8>,
    channel: Channel,
    answers: Consumer,
    /// The stream, read by who writes it: a change is not accepted before its author has read it back.
    echo: Option<Consumer>,
    /// How many the sender has read back.
    taken: u32,
    count: u32,
    connections: Vec<Connection>,
}

impl Floor {
    /// Connects so many consumers, in turn to each of the nodes.
    pub(crate) async fn start(urls: &[String], way: Way, count: u32, sizes: Sizes) -> Result<Self> {
        let name = format!("bench.{}", uuid::Uuid::new_v4().simple());
        let (to, back) = (format!("{name}.to"), format!("{name}.back"));
        let connection = connect(&urls[0]).await?;
        let channel = connection.create_channel().await?;
        let passing = ExchangeDeclareOptions {
            auto_delete: true,
            ..Default::default()
        };
        channel
            .exchange_declare(
                back.as_str().into(),
                ExchangeKind::Fanout,
                passing,
                FieldTable::default(),
            )
            .await?;
        queue(&channel, &back, Some(&back)).await?;
        let answers = consume(&channel, &back, true, FieldTable::default()).await?;
        match way {
            Way::Fanout => {
                let kind = ExchangeKind::Fanout;
                channel
                    .exchange_declare(to.as_str().into(), kind, passing, FieldTable::default())
                    .await?;
            }
            Way::Stream => {
                let durable = QueueDeclareOptions {
                    durable: true,
                    ..Default::default()
                };
                let mut arguments = FieldTable::default();
                arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
                channel.queue_declare(to.as_str().into(), durable, arguments).await?;
                channel.confirm_select(ConfirmSelectOptions::default()).await?;
            }
        }
        let echo = match way {
            Way::Fanout => None,
            Way::Stream => {
                let channel = connection.create_channel().await?;
                channel.basic_qos(200, BasicQosOptions::default()).await?;
                Some(consume(&channel, &to, false, next()).await?)
            }
        };
        let mut connections = vec![connection];
        for number in 0..count {
            let connection = connect(&urls[number as usize % urls.len()]).await?;
            let channel = connection.create_channel().await?;
            channel.basic_qos(200, BasicQosOptions::default()).await?;
            let consumer = match way {
                Way::Fanout => {
                    let own = format!("{name}.{number}");
                    queue(&channel, &own, Some(&to)).await?;
                    consume(&channel, &own, false, FieldTable::default()).await?
                }
                Way::Stream => consume(&channel, &to, false, next()).await?,
            };
            tokio::spawn(answer(consumer, channel, back.clone(), vec![b'a'; sizes.answer]));
            connections.push(connection);
        }
        Ok(Self {
            way,
            name,
            message: vec![b'm'; sizes.message],
            channel,
            answers,
            echo,
            taken: 0,
            count,
            connections,
        })
    }

    /// Sends one message and waits for all answers; returns how long that took.
    pub(crate) async fn round(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        tokio::time::timeout(PATIENCE, self.send())
            .await
            .context("a bare round takes too long")??;
        Ok(begun.elapsed())
    }

    async fn send(&mut self) -> Result<()> {
        let to = format!("{}.to", self.name);
        let (exchange, key) = match self.way {
            Way::Fanout => (to.as_str(), ""),
            Way::Stream => ("", to.as_str()),
        };
        let mode = if self.way == Way::Stream { 2 } else { 1 };
        let properties = BasicProperties::default().with_delivery_mode(mode);
        let options = BasicPublishOptions {
            mandatory: self.way == Way::Stream,
            ..Default::default()
        };
        let confirm = self
            .channel
            .basic_publish(exchange.into(), key.into(), options, &self.message, properties)
            .await?;
        for _ in 0..self.count {
            self.answers.next().await.context("the answers end")??;
        }
        confirm.await?;
        if let Some(echo) = &mut self.echo {
            let delivery = echo.next().await.context("the stream ends")??;
            self.taken += 1;
            if self.taken.is_multiple_of(ACK_BATCH) {
                delivery.ack(BasicAckOptions { multiple: true }).await?;
            }
        }
        Ok(())
    }

    /// Closes everything.
    pub(crate) async fn finish(self) -> Result<()> {
        if self.way == Way::Stream {
            let to = format!("{}.to", self.name);
            self.channel
                .queue_delete(to.as_str().into(), QueueDeleteOptions::default())
                .await?;
        }
        for connection in self.connections.iter().rev() {
            connection.close(200, "done".into()).await?;
        }
        Ok(())
    }
}

/// Where readers of the stream begin: at what comes next.
fn next() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), AMQPValue::LongString("next".into()));
    arguments
}

async fn connect(url: &str) -> Result<Connection> {
    // lapin takes an empty path for a virtual host without a name.
    let url = url.replacen("/?", "/%2f?", 1);
    Ok(Connection::connect(&url, ConnectionProperties::default()).await?)
}

async fn queue(channel: &Channel, name: &str, exchange: Option<&str>) -> Result<()> {
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    channel
        .queue_declare(name.into(), exclusive, FieldTable::default())
        .await?;
    if let Some(exchange) = exchange {
        let binding = channel.queue_bind(
            name.into(),
            exchange.into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        binding.await?;
    }
    Ok(())
}

async fn consume(channel: &Channel, queue: &str, no_ack: bool, arguments: FieldTable) -> Result<Consumer> {
    let options = BasicConsumeOptions {
        no_ack,
        ..Default::default()
    };
    Ok(channel
        .basic_consume(queue.into(), "".into(), options, arguments)
        .await?)
}

/// Answers every delivery until the connection ends.
async fn answer(mut consumer: Consumer, channel: Channel, back: String, payload: Vec<u8>) {
    let mut taken: u32 = 0;
    while let Some(Ok(delivery)) = consumer.next().await {
        let properties = BasicProperties::default().with_delivery_mode(1);
        let options = BasicPublishOptions::default();
        let sent = channel
            .basic_publish(back.as_str().into(), "".into(), options, &payload, properties)
            .await;
        if sent.is_err() {
            return;
        }
        taken += 1;
        if taken.is_multiple_of(ACK_BATCH) && delivery.ack(BasicAckOptions { multiple: true }).await.is_err() {
            return;
        }
    }
}
