//! In which order notebooks are run: each once, in an order of its own each time round.

/// What is left of the current round. It carries over into the next session.
#[derive(Debug, Default)]
pub(super) struct Queue {
    left: Vec<usize>,
}

impl Queue {
    /// Returns the next one of `all`; `None` if there are none at all.
    pub(super) fn next(&mut self, all: &[usize], random: &mut fastrand::Rng) -> Option<usize> {
        if self.left.is_empty() {
            self.left.extend_from_slice(all);
            random.shuffle(&mut self.left);
        }
        self.left.pop()
    }

    /// Whether everything has had its turn.
    pub(super) const fn is_over(&self) -> bool {
        self.left.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_each_once_and_an_order_of_its_own() {
        let (mut queue, mut random) = (Queue::default(), fastrand::Rng::with_seed(7));
        let all: Vec<usize> = (0..20).collect();
        let mut round = || -> Vec<usize> {
            let round = all.iter().map(|_| queue.next(&all, &mut random).unwrap()).collect();
            assert!(queue.is_over());
            round
        };
        let (one, other) = (round(), round());
        assert_ne!(one, other);
        for mut round in [one, other] {
            round.sort_unstable();
            assert_eq!(round, all);
        }
        assert_eq!(Queue::default().next(&[], &mut random), None);
    }
}
