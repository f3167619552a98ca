//! Answers to queries: at once, from what is known, a long one in several parts.

use std::io;
use std::sync::Arc;

use mobu_fleet::domain::fold::Known;
use mobu_fleet::domain::ids::{InstanceId, MonkeyName, SessionId};
use mobu_fleet::domain::messages::{Answer, AnswerBody, Ask, SCHEMA, Wire};
use mobu_fleet::domain::monkey::MonkeyData;
use mobu_fleet::link::{Address, LinkError, Message, ReplyAddress, Session};

use super::handle::Flocks;
use crate::monkey::Monkey;

/// Most monkeys in one part of an answer.
const PART_MONKEYS: usize = 500;
/// How large a part of an answer may get, in bytes, before the next one begins.
const PART_BYTES: usize = 512 * 1024;
/// Longest piece of a log that one answer carries, in bytes.
const LOG_PART: u32 = 256 * 1024;

/// Where an answer goes, and from whom it comes.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) instance_id: InstanceId,
    pub(super) session: SessionId,
    pub(super) reply_to: ReplyAddress,
    pub(super) correlation_id: Option<String>,
}

impl Envelope {
    fn message(&self, part: u32, last: bool, body: AnswerBody) -> Message {
        let answer = Answer {
            schema: SCHEMA,
            instance_id: Some(self.instance_id.clone()),
            session: self.session.clone(),
            part,
            last,
            body,
        };
        Message {
            correlation_id: self.correlation_id.clone(),
            ..Message::new(Answer::KIND, answer.encode())
        }
    }

    fn address(&self) -> Address {
        Address::Reply(self.reply_to.clone())
    }

    /// Sends an answer of one part without waiting.
    pub(super) fn post(&self, session: &dyn Session, body: AnswerBody) -> Result<(), LinkError> {
        session.post(self.address(), self.message(0, true, body))
    }

    /// Sends an answer part by part, no faster than they are taken.
    pub(super) async fn send(&self, session: Arc<dyn Session>, listing: Listing) -> Result<(), LinkError> {
        let mut parts = listing.parts().peekable();
        let mut number = 0;
        while let Some(part) = parts.next() {
            let is_last = parts.peek().is_none();
            session
                .publish(self.address(), self.message(number, is_last, part))
                .await?;
            number += 1;
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

/// What a question leads to.
pub(super) enum Reply {
    /// An answer of one part.
    One(AnswerBody),
    /// An answer that may take several.
    Many(Listing),
}

/// A long answer.
pub(super) struct Listing {
    monkeys: Vec<Arc<Monkey>>,
    names_only: bool,
}

/// Answers a question.
pub(super) fn answer(ask: Ask, acted: Option<&Known>, flocks: &Flocks) -> Reply {
    let herd = |name| flocks.status(name).map(|status| status.monkeys);
    match ask {
        Ask::State { above, line } => {
            let standing = acted.map(|acted| acted.standing.clone());
            let more = acted.filter(|acted| acted.standing.knows_more_than(above.as_ref(), line.as_ref()));
            Reply::One(AnswerBody::state(standing, more))
        }
        Ask::Flock { ref flock } | Ask::Monkeys { ref flock } => match herd(flock) {
            None => Reply::One(AnswerBody::NotHere),
            Some(herd) => Reply::Many(Listing {
                monkeys: herd.map(|herd| herd.roster.monkeys().to_vec()).unwrap_or_default(),
                names_only: matches!(ask, Ask::Monkeys { .. }),
            }),
        },
        Ask::Monkey { flock, monkey } => Reply::One(match herd(&flock).flatten() {
            Some(herd) => match herd.roster.find(&monkey) {
                Some(monkey) => AnswerBody::Monkey {
                    monkey: Box::new(monkey.data()),
                },
                None => AnswerBody::NotHere,
            },
            None => AnswerBody::NotHere,
        }),
        Ask::Log {
            flock,
            monkey,
            offset,
            limit,
        } => {
            let herd = herd(&flock).flatten();
            let monkey = herd.as_ref().and_then(|herd| herd.roster.find(&monkey));
            let part = monkey.and_then(|monkey| monkey.read_log(offset, limit.min(LOG_PART)));
            Reply::One(part.map_or(AnswerBody::NotHere, AnswerBody::Log))
        }
    }
}

impl Listing {
    /// Returns whether it surely fits one part.
    pub(super) fn is_short(&self) -> bool {
        self.monkeys.len() <= 50
    }

    /// Returns the parts, at least one.
    pub(super) fn parts(self) -> impl Iterator<Item = AnswerBody> {
        let mut rest = self.monkeys.into_iter().peekable();
        let mut is_first = true;
        std::iter::from_fn(move || {
            if rest.peek().is_none() && !is_first {
                return None;
            }
            is_first = false;
            Some(if self.names_only {
                AnswerBody::Monkeys {
                    monkeys: fill(&mut rest, |monkey| monkey.name().clone(), name_size),
                }
            } else {
                AnswerBody::Flock {
                    monkeys: fill(&mut rest, Monkey::data, data_size),
                }
            })
        })
    }
}

fn fill<T>(
    rest: &mut impl Iterator<Item = Arc<Monkey>>,
    show: impl Fn(&Monkey) -> T,
    size: impl Fn(&T) -> usize,
) -> Vec<T> {
    let (mut part, mut bytes) = (Vec::new(), 0);
    while part.len() < PART_MONKEYS && bytes < PART_BYTES {
        let Some(monkey) = rest.next() else { break };
        let shown = show(&monkey);
        bytes += size(&shown);
        part.push(shown);
    }
    part
}

fn name_size(name: &MonkeyName) -> usize {
    name.as_str().len() + 3
}

/// How many bytes of JSON a monkey takes.
fn data_size(monkey: &MonkeyData) -> usize {
    let mut count = Count(0);
    // It serializes, as its answer will.
    drop(serde_json::to_writer(&mut count, monkey));
    count.0
}

/// Counts what is written, and keeps none of it.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
