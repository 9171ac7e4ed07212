//! Whose turn it is to compute: one at a time, and users take turns.
//!
//! A user who asks for much at once waits behind oneself alone: whoever else asks is next, however
//! many wait. Each user has few places to wait in, and there are few in all.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hob_api::ApiError;
use tokio::sync::oneshot;

use crate::scheduler;

/// The turns. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    state: Arc<Mutex<State>>,
    queue: usize,
    per_uid: usize,
}

#[derive(Debug, Default)]
struct State {
    /// Whether somebody has a turn.
    taken: bool,
    /// Who waits: each user once, in the order of their turns, with what that user asked for.
    waiting: VecDeque<(u32, VecDeque<oneshot::Sender<Turn>>)>,
}

/// Somebody's turn, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Turns);

impl Turns {
    /// Nobody's turn. `queue` may wait, and `per_uid` of each user.
    pub(crate) fn new(queue: usize, per_uid: usize) -> Self {
        Self {
            state: Arc::default(),
            queue,
            per_uid,
        }
    }

    /// Waits for a turn of `uid`. Who drops the future does not wait any more.
    ///
    /// # Errors
    /// `busy` at once if too many wait, of all or of that user.
    pub(crate) async fn take(&self, uid: u32) -> Result<Turn, ApiError> {
        match self.enter(uid)? {
            Entered::Now(turn) => Ok(turn),
            // Nobody drops a sender whose reader waits.
            Entered::Later(turn) => turn.await.map_err(|_| scheduler::queue_full(self.queue)),
        }
    }

    fn enter(&self, uid: u32) -> Result<Entered, ApiError> {
        let mut state = self.lock();
        if !state.taken {
            state.taken = true;
            return Ok(Entered::Now(Turn(self.clone())));
        }
        state.forget_the_gone();
        let all: usize = state.waiting.iter().map(|(_, line)| line.len()).sum();
        let mut lines = state.waiting.iter_mut();
        let own = lines.find(|(owner, _)| *owner == uid);
        if own.as_ref().map_or(0, |(_, line)| line.len()) >= self.per_uid {
            return Err(scheduler::share_full(self.per_uid));
        }
        if all >= self.queue {
            return Err(scheduler::queue_full(self.queue));
        }
        let (sender, turn) = oneshot::channel();
        match own {
            Some((_, line)) => line.push_back(sender),
            None => state.waiting.push_back((uid, VecDeque::from([sender]))),
        }
        Ok(Entered::Later(turn))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole before the next statement, so what a panic leaves is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Entered {
    Now(Turn),
    Later(oneshot::Receiver<Turn>),
}

impl State {
    fn forget_the_gone(&mut self) {
        for (_, line) in &mut self.waiting {
            line.retain(|waiting| !waiting.is_closed());
        }
        self.waiting.retain(|(_, line)| !line.is_empty());
    }

    /// The next of whoever waits; that user's others then wait behind everybody.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        self.forget_the_gone();
        let (uid, mut line) = self.waiting.pop_front()?;
        let next = line.pop_front();
        if !line.is_empty() {
            self.waiting.push_back((uid, line));
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let next = state.next();
        state.taken = next.is_some();
        drop(state);
        if let Some(next) = next {
            // Who has gone in this moment drops the turn, which is then the next one's.
            drop(next.send(Turn(self.0.clone())));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use hob_api::ErrorCode;
    use proptest::prelude::*;

    use super::*;

    fn waits(turns: &Turns, uid: u32) -> oneshot::Receiver<Turn> {
        match turns.enter(uid).unwrap() {
            Entered::Now(_) => panic!("nobody has the turn"),
            Entered::Later(turn) => turn,
        }
    }

    fn first(turns: &Turns) -> Turn {
        match turns.enter(0).unwrap() {
            Entered::Now(turn) => turn,
            Entered::Later(_) => panic!("somebody has the turn"),
        }
    }

    #[test]
    fn a_flood_of_one_user_keeps_no_other_waiting() {
        let turns = Turns::new(100, 50);
        let mut turn = first(&turns);
        let flood: Vec<_> = (0..50).map(|_| waits(&turns, 1)).collect();
        let mut others = [waits(&turns, 2), waits(&turns, 3)];
        let mut flood = flood.into_iter();
        let mut next = flood.next().unwrap();
        drop(turn);
        turn = next.try_recv().unwrap();
        for other in &mut others {
            drop(turn);
            turn = other.try_recv().unwrap();
        }
        // The rest in order, and whoever comes meanwhile is next.
        drop(turn);
        next = flood.next().unwrap();
        turn = next.try_recv().unwrap();
        let mut late = waits(&turns, 2);
        drop(turn);
        next = flood.next().unwrap();
        turn = next.try_recv().unwrap();
        drop(turn);
        turn = late.try_recv().unwrap();
        for mut next in flood {
            drop(turn);
            turn = next.try_recv().unwrap();
        }
        drop(turn);
        drop(first(&turns));
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let turns = Turns::new(4, 3);
        let turn = first(&turns);
        let refused = |uid| turns.enter(uid).err().map(|error| error.code);
        let mut mine: Vec<_> = (0..3).map(|_| waits(&turns, 1)).collect();
        assert_eq!(refused(1), Some(ErrorCode::Busy));
        let _other = waits(&turns, 2);
        assert_eq!(refused(3), Some(ErrorCode::Busy));
        // Who does not wait any more has no place.
        mine.pop();
        drop(waits(&turns, 3));
        let _again = waits(&turns, 1);
        assert_eq!(refused(3), Some(ErrorCode::Busy));
        drop(turn);
    }

    #[tokio::test]
    async fn who_gives_up_passes_the_turn_on() {
        let turns = Turns::new(4, 4);
        let turn = turns.take(1).await.unwrap();
        let (gone, waiting) = (waits(&turns, 1), waits(&turns, 2));
        drop(turn);
        // It was given the turn, and never took it.
        drop(gone);
        drop(waiting.await.unwrap());
        drop(turns.take(3).await.unwrap());
    }

    proptest! {
        /// Nobody has more than one turn before another who waits has had one, each user's come in
        /// order, and none is lost.
        #[test]
        fn users_take_turns(arrivals in prop::collection::vec(0_u32..4, 1..40)) {
            let turns = Turns::new(100, 100);
            let mut turn = first(&turns);
            let mut waiting: Vec<(u32, oneshot::Receiver<Turn>)> =
                arrivals.iter().map(|uid| (*uid, waits(&turns, *uid))).collect();
            let mut since: [usize; 4] = [0; 4];
            while !waiting.is_empty() {
                drop(turn);
                let at = waiting.iter().position(|(_, waits)| !waits.is_empty()).unwrap();
                let (uid, mut got) = waiting.remove(at);
                turn = got.try_recv().unwrap();
                prop_assert!(waiting[..at].iter().all(|(other, _)| *other != uid));
                for (other, count) in since.iter_mut().enumerate() {
                    let waits = waiting.iter().any(|(uid, _)| *uid as usize == other);
                    *count = if waits && other != uid as usize { *count + 1 } else { 0 };
                    prop_assert!(*count <= 3, "others had more turns than there are others");
                }
            }
            drop(turn);
            drop(first(&turns));
        }
    }
}
