//! Questions under way: who was asked, who has answered, who has not.

use std::collections::{BTreeMap, BTreeSet};

use mobu_fleet::domain::ids::InstanceId;
use mobu_fleet::domain::messages::{Answer, AnswerBody};
use mobu_fleet::runtime::clock::Instant;
use tokio::sync::oneshot;

/// How many gathers may be under way; more are refused, so that callers who do not wait cannot fill the memory.
pub const MOST_GATHERS: usize = 1024;

/// What came of a question to several replicas.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gathered {
    /// The parts of each complete answer, in order.
    pub answers: BTreeMap<InstanceId, Vec<AnswerBody>>,
    /// Who was asked and has not answered in time.
    pub missing: BTreeSet<InstanceId>,
}

/// Everything that is being gathered.
#[derive(Debug, Default)]
pub struct Gathers {
    open: BTreeMap<String, Open>,
    /// Answers that came too late or twice.
    pub dropped: u64,
}

#[derive(Debug)]
struct Open {
    waiting_for: BTreeSet<InstanceId>,
    parts: BTreeMap<InstanceId, BTreeMap<u32, Answer>>,
    deadline: Instant,
    done: oneshot::Sender<Gathered>,
}

impl Gathers {
    /// Begins to gather answers with a correlation ID; ends at once if nobody is asked.
    ///
    /// Returns whether anything is to be asked.
    pub fn begin(
        &mut self,
        correlation_id: String,
        from: BTreeSet<InstanceId>,
        deadline: Instant,
        done: oneshot::Sender<Gathered>,
    ) -> bool {
        if from.is_empty() || self.open.len() >= MOST_GATHERS {
            // Whoever asked may be gone; that is their right.
            drop(done.send(Gathered {
                missing: from,
                ..Gathered::default()
            }));
            return false;
        }
        self.open.insert(
            correlation_id,
            Open {
                waiting_for: from,
                parts: BTreeMap::new(),
                deadline,
                done,
            },
        );
        true
    }

    /// Takes a part of an answer. The gather ends when all who were asked have answered in full.
    pub fn take(&mut self, correlation_id: &str, answer: Answer) {
        let (Some(open), Some(id)) = (self.open.get_mut(correlation_id), answer.instance_id.clone()) else {
            self.dropped += 1;
            return;
        };
        if !open.waiting_for.contains(&id) {
            self.dropped += 1;
            return;
        }
        let parts = open.parts.entry(id.clone()).or_default();
        if parts.values().any(|known| known.session != answer.session) {
            // The replica was restarted while it answered: only its present process counts.
            parts.clear();
        }
        parts.insert(answer.part, answer);
        if is_complete(parts) {
            open.waiting_for.remove(&id);
        }
        if open.waiting_for.is_empty() {
            self.end(correlation_id);
        }
    }

    /// Takes note that a replica cannot be reached: nothing more is awaited from it.
    pub fn give_up(&mut self, correlation_id: &str) {
        self.end(correlation_id);
    }

    /// Ends what is due, and what nobody waits for any more.
    pub fn expire(&mut self, now: Instant) {
        let due = self
            .open
            .iter()
            .filter(|(_, open)| open.deadline <= now || open.done.is_closed());
        let due: Vec<String> = due.map(|(correlation_id, _)| correlation_id.clone()).collect();
        for correlation_id in &due {
            self.end(correlation_id);
        }
    }

    /// Ends everything: the answers will not come.
    pub fn abandon(&mut self) {
        let all: Vec<String> = self.open.keys().cloned().collect();
        for correlation_id in &all {
            self.end(correlation_id);
        }
    }

    fn end(&mut self, correlation_id: &str) {
        let Some(open) = self.open.remove(correlation_id) else {
            return;
        };
        let complete = open.parts.into_iter().filter(|(id, _)| !open.waiting_for.contains(id));
        let answers = complete
            .map(|(id, parts)| (id, parts.into_values().map(|part| part.body).collect()))
            .collect();
        // Whoever asked may be gone; that is their right.
        drop(open.done.send(Gathered {
            answers,
            missing: open.waiting_for,
        }));
    }
}

fn is_complete(parts: &BTreeMap<u32, Answer>) -> bool {
    let in_order = parts
        .keys()
        .copied()
        .eq(0..u32::try_from(parts.len()).unwrap_or(u32::MAX));
    in_order && parts.last_key_value().is_some_and(|(_, part)| part.last)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mobu_fleet::domain::ids::{MonkeyName, SessionId};
    use mobu_fleet::domain::messages::SCHEMA;

    use super::*;

    fn answer(id: &str, session: &str, part: u32, last: bool) -> Answer {
        Answer {
            schema: SCHEMA,
            instance_id: Some(id.parse().unwrap()),
            session: SessionId::new(session),
            part,
            last,
            body: AnswerBody::Monkeys {
                monkeys: vec![MonkeyName::new(format!("{id}-{session}-{part}"))],
            },
        }
    }

    fn ids(ids: &[&str]) -> BTreeSet<InstanceId> {
        ids.iter().map(|id| id.parse().unwrap()).collect()
    }

    fn begin(gathers: &mut Gathers, from: &[&str]) -> oneshot::Receiver<Gathered> {
        let (done, gathered) = oneshot::channel();
        gathers.begin("c".to_owned(), ids(from), Instant::now() + Duration::from_secs(5), done);
        gathered
    }

    #[test]
    fn it_ends_when_the_last_part_of_the_last_answer_is_there_in_whatever_order() {
        let mut gathers = Gathers::default();
        let mut gathered = begin(&mut gathers, &["0", "1"]);
        gathers.take("c", answer("0", "s", 1, true));
        gathers.take("c", answer("1", "s", 0, true));
        assert!(gathered.try_recv().is_err());
        gathers.take("c", answer("0", "s", 0, false));
        let gathered = gathered.try_recv().unwrap();
        assert!(gathered.missing.is_empty());
        assert_eq!(gathered.answers.values().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        gathers.take("c", answer("0", "s", 0, false));
        assert_eq!(gathers.dropped, 1);
    }

    #[test]
    fn at_the_deadline_half_an_answer_is_none_and_its_replica_is_missing() {
        let mut gathers = Gathers::default();
        let mut gathered = begin(&mut gathers, &["0", "1"]);
        gathers.take("c", answer("0", "s", 0, false));
        gathers.take("c", answer("1", "s", 0, true));
        gathers.expire(Instant::now() + Duration::from_secs(6));
        let gathered = gathered.try_recv().unwrap();
        assert_eq!(gathered.missing, ids(&["0"]));
        assert_eq!(gathered.answers.keys().cloned().collect::<BTreeSet<_>>(), ids(&["1"]));
    }

    #[test]
    fn parts_of_two_lives_of_a_replica_are_never_put_together() {
        let mut gathers = Gathers::default();
        let mut gathered = begin(&mut gathers, &["0"]);
        gathers.take("c", answer("0", "old", 0, false));
        gathers.take("c", answer("0", "new", 1, true));
        assert!(gathered.try_recv().is_err());
        gathers.take("c", answer("0", "new", 0, false));
        assert_eq!(
            gathered
                .try_recv()
                .unwrap()
                .answers
                .values()
                .map(Vec::len)
                .sum::<usize>(),
            2
        );
    }

    #[test]
    fn asking_nobody_is_answered_at_once() {
        let mut gathers = Gathers::default();
        assert_eq!(begin(&mut gathers, &[]).try_recv().unwrap(), Gathered::default());
    }
}
