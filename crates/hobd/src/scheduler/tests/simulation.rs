//! A seeded simulation under virtual time.

use std::collections::BTreeSet;

use super::super::queue::AGEING;
use super::*;

const SCHEDULES: u64 = 100_000;
const STEPS: u32 = 120;
const USERS: u64 = 3;
/// A request that is as urgent as anything can be has at most all other requests of its user before
/// it, and before each of these and itself one of every other user.
const TURNS_MAX: u64 = 3 * USERS;

/// xorshift64*: <https://doi.org/10.18637/jss.v008.i14>, with Vigna's multiplier.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// The world around the scheduler: what was promised, and what the engine has.
struct World {
    scheduler: Scheduler,
    now: Instant,
    random: Random,
    next_id: u64,
    /// Admitted and not ended, with their deadlines.
    owed: BTreeMap<RequestId, Instant>,
    /// Those that wait, with when they came, and how many went before them since they are as
    /// urgent as anything can be.
    waiting: BTreeMap<RequestId, (Instant, u64)>,
    in_engine: BTreeSet<RequestId>,
    engine_alive: bool,
    exited: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            scheduler: Scheduler::new(bounds()),
            now: Instant::now(),
            random: Random(seed * 2 + 1),
            next_id: 1,
            owed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            in_engine: BTreeSet::new(),
            engine_alive: false,
            exited: false,
        }
    }

    fn step(&mut self, input: Input) {
        if let Input::Submit { id, deadline, .. } = &input {
            self.owed.insert(*id, *deadline);
            self.waiting.insert(*id, (self.now, 0));
        }
        if matches!(input, Input::Gone) {
            self.engine_alive = false;
            self.in_engine.clear();
        }
        for action in self.scheduler.step(self.now, input) {
            self.obey(&action);
        }
        assert!(self.waiting.len() <= bounds().queue, "the queue is bounded");
        assert!(self.in_engine.len() <= bounds().parallel);
        assert!(
            self.owed.values().all(|deadline| *deadline > self.now),
            "overdue"
        );
    }

    fn obey(&mut self, action: &Action) {
        assert!(!self.exited, "{action:?} after the end");
        match action {
            Action::Start => {
                assert!(!self.engine_alive, "a second engine");
                self.engine_alive = true;
            }
            Action::Kill => assert!(self.engine_alive),
            Action::Dispatch(id) => {
                assert!(self.engine_alive && self.owed.contains_key(id));
                assert!(self.in_engine.insert(*id));
                self.waiting.remove(id);
                self.overtake();
            }
            Action::Cancel(id) => assert!(self.in_engine.contains(id)),
            Action::Refuse(id, _) | Action::Fail(id, _) => {
                assert!(self.owed.remove(id).is_some(), "two ends of {id}");
                self.waiting.remove(id);
            }
            Action::Position(id, before) => {
                assert!(self.owed.contains_key(id) && (*before as usize) < bounds().queue);
            }
            Action::Exit => {
                assert!(self.owed.is_empty() && !self.engine_alive);
                self.exited = true;
            }
        }
    }

    /// Another one went first: nobody who has aged sees that too often.
    fn overtake(&mut self) {
        for (id, (since, before)) in &mut self.waiting {
            if self.now - *since >= AGEING * 2 {
                *before += 1;
                assert!(*before < TURNS_MAX, "{id} starves");
            }
        }
    }

    fn submit(&mut self) {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let deadline = self.now + Duration::from_secs(1 + self.random.below(90));
        let uid = u32::try_from(self.random.below(USERS)).unwrap();
        let class = Class::ALL[usize::try_from(self.random.below(3)).unwrap()];
        let keep_alive =
            (self.random.below(4) == 0).then(|| Duration::from_secs(self.random.below(9)));
        self.step(Input::Submit {
            id,
            uid,
            class,
            deadline,
            keep_alive,
        });
    }

    fn any_request(&mut self) -> RequestId {
        RequestId(1 + self.random.below(self.next_id))
    }

    fn engine_ends_one(&mut self) {
        let count = self.in_engine.len() as u64;
        if count > 0 {
            let nth = usize::try_from(self.random.below(count)).unwrap();
            let id = *self.in_engine.iter().nth(nth).unwrap();
            self.in_engine.remove(&id);
            self.owed.remove(&id);
            self.step(Input::Ended { id });
        }
    }

    fn pass_time(&mut self) {
        let until = self.now + Duration::from_millis(self.random.below(8_000));
        // As the daemon does: never sleep past the wake-up that the scheduler asks for.
        while let Some(wakeup) = self.scheduler.wakeup()
            && wakeup < until
            && !self.exited
        {
            self.now = wakeup.max(self.now + Duration::from_millis(1));
            self.step(Input::Tick);
        }
        self.now = self.now.max(until);
        self.step(Input::Tick);
    }

    fn anything(&mut self) {
        let error = ApiError::new(ErrorCode::ModelFailed, "simulated");
        match self.random.below(26) {
            0..7 => self.submit(),
            7..11 => self.engine_ends_one(),
            11..14 => self.pass_time(),
            14 => {
                let id = self.any_request();
                self.step(Input::Abort { id, error });
            }
            15..18 if self.engine_alive => self.step(Input::Ready { parallel: 2 }),
            18 if self.engine_alive => self.step(Input::Gone),
            19 if self.engine_alive => self.step(Input::LoadFailed { error }),
            20 if self.engine_alive => {
                let changed = self.random.below(4) == 0;
                self.step(if changed {
                    Input::ModelChanged
                } else {
                    Input::Misbehaved
                });
            }
            21 => self.step(Input::Load),
            22 => self.step(Input::Unload),
            23 | 24 => {
                let nth = usize::try_from(self.random.below(4)).unwrap();
                self.step(Input::Pressure(Level::ALL[nth]));
            }
            _ if self.engine_alive => self.step(Input::Alive),
            _ => {}
        }
    }
}

#[test]
fn every_schedule_keeps_the_invariants_and_comes_to_an_end() {
    for seed in 0..SCHEDULES {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.anything();
        }
        world.step(Input::Shutdown);
        for _ in 0..4 {
            if world.exited {
                break;
            }
            world.now += bounds().shutdown_grace;
            world.step(Input::Tick);
            if world.engine_alive {
                world.step(Input::Gone);
            }
        }
        assert!(world.exited && world.owed.is_empty(), "seed {seed} hangs");
    }
}
