#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

//! The cases that deserve a name of their own; `simulation` tries all the others.

use hob_api::chat::Class;

use super::engine::QUARANTINE;
use super::*;

mod simulation;

fn bounds() -> Bounds {
    Bounds {
        queue: 4,
        per_uid: 3,
        parallel: 2,
        load_timeout: Duration::from_secs(20),
        hang_timeout: Duration::from_secs(10),
        keep_alive: Duration::from_secs(25),
        shutdown_grace: Duration::from_secs(5),
    }
}

fn request(id: u64, uid: u32, now: Instant) -> Input {
    Input::Submit {
        id: RequestId(id),
        uid,
        class: Class::Chat,
        deadline: now + Duration::from_secs(30),
        keep_alive: None,
    }
}

fn ready(scheduler: &mut Scheduler, now: Instant) -> Vec<Action> {
    assert!(scheduler.step(now, Input::Load).contains(&Action::Start));
    scheduler.step(now, Input::Ready { parallel: 2 })
}

fn failures(actions: &[Action]) -> Vec<(u64, ErrorCode)> {
    let failed = actions.iter().filter_map(|action| match action {
        Action::Fail(id, error) => Some((id.0, error.code)),
        _ => None,
    });
    failed.collect()
}

#[test]
fn a_request_waits_for_the_model_and_then_runs() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(bounds());
    let actions = scheduler.step(now, request(1, 0, now));
    assert_eq!(actions, [Action::Start, Action::Position(RequestId(1), 0)]);
    let actions = scheduler.step(now, Input::Ready { parallel: 2 });
    assert_eq!(actions, [Action::Dispatch(RequestId(1))]);
}

#[test]
fn a_full_queue_and_a_full_share_are_refused_at_once() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(bounds());
    for (id, uid) in [(1, 0), (2, 0), (3, 0), (4, 1)] {
        scheduler.step(now, request(id, uid, now));
    }
    let refused = |actions: Vec<Action>| match actions.as_slice() {
        [Action::Refuse(_, error)] => error.clone(),
        other => panic!("{other:?}"),
    };
    let full = refused(scheduler.step(now, request(5, 1, now)));
    assert_eq!(full.code, ErrorCode::Busy);
    assert!(full.retry_after_ms.is_some() && full.message.contains("queue"));

    scheduler.step(now, Input::Ready { parallel: 2 });
    let share = refused(scheduler.step(now, request(6, 0, now)));
    assert!(share.message.contains("limit for one user"), "{share}");
}

#[test]
fn a_lost_engine_costs_what_ran_and_nothing_that_waits() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(bounds());
    ready(&mut scheduler, now);
    for id in 1..=3 {
        scheduler.step(now, request(id, 0, now));
    }
    let lost = scheduler.step(now, Input::Gone);
    let expected = [(1, ErrorCode::EngineLost), (2, ErrorCode::EngineLost)];
    assert_eq!(failures(&lost), expected);
    let later = scheduler.wakeup().unwrap();
    assert_eq!(scheduler.step(later, Input::Tick), [Action::Start]);
    let actions = scheduler.step(later, Input::Ready { parallel: 2 });
    assert_eq!(actions, [Action::Dispatch(RequestId(3))]);
}

#[test]
fn three_crashes_in_a_minute_put_the_model_in_quarantine() {
    let mut now = Instant::now();
    let mut scheduler = Scheduler::new(bounds());
    ready(&mut scheduler, now);
    for _ in 0..2 {
        scheduler.step(now, Input::Gone);
        now = scheduler.wakeup().unwrap();
        assert_eq!(scheduler.step(now, Input::Tick), [Action::Start]);
    }
    scheduler.step(now, Input::Gone);
    assert_eq!(scheduler.state().0, State::Failed);
    let refused = scheduler.step(now, request(1, 0, now));
    assert!(matches!(&refused[..], [Action::Refuse(_, e)] if e.code == ErrorCode::ModelFailed));
    now += QUARANTINE;
    assert!(
        scheduler
            .step(now, request(2, 0, now))
            .contains(&Action::Start)
    );
}

#[test]
fn a_hung_engine_is_killed_and_its_requests_are_told_so() {
    let mut now = Instant::now();
    let mut scheduler = Scheduler::new(bounds());
    ready(&mut scheduler, now);
    scheduler.step(now, request(1, 0, now));
    now += bounds().hang_timeout;
    let actions = scheduler.step(now, Input::Tick);
    assert_eq!(failures(&actions), [(1, ErrorCode::EngineLost)]);
    assert!(actions.contains(&Action::Kill));
}

#[test]
fn an_engine_that_does_not_let_go_of_a_request_is_killed() {
    let mut now = Instant::now();
    let mut scheduler = Scheduler::new(bounds());
    ready(&mut scheduler, now);
    scheduler.step(now, request(1, 0, now));
    let id = RequestId(1);
    let error = ApiError::new(ErrorCode::Cancelled, "test");
    scheduler.step(now, Input::Abort { id, error });
    now += bounds().hang_timeout / 2;
    assert_eq!(scheduler.step(now, Input::Alive), []);
    now += bounds().hang_timeout / 2;
    assert_eq!(scheduler.step(now, Input::Tick), [Action::Kill]);
}

#[test]
fn an_aborted_request_keeps_its_place_in_the_engine_until_that_lets_go() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(bounds());
    ready(&mut scheduler, now);
    for id in 1..=3 {
        scheduler.step(now, request(id, 0, now));
    }
    let error = ApiError::new(ErrorCode::Cancelled, "test");
    let id = RequestId(1);
    let actions = scheduler.step(now, Input::Abort { id, error });
    assert_eq!(failures(&actions), [(1, ErrorCode::Cancelled)]);
    assert!(actions.contains(&Action::Cancel(id)) && actions.len() == 2);
    let actions = scheduler.step(now, Input::Ended { id });
    assert_eq!(actions, [Action::Dispatch(RequestId(3))]);
}

#[test]
fn shutdown_lets_running_answers_finish_and_then_ends() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(bounds());
    ready(&mut scheduler, now);
    for id in 1..=3 {
        scheduler.step(now, request(id, 0, now));
    }
    let actions = scheduler.step(now, Input::Shutdown);
    assert_eq!(failures(&actions), [(3, ErrorCode::NotReady)]);
    scheduler.step(now, Input::Ended { id: RequestId(1) });
    let actions = scheduler.step(now, Input::Ended { id: RequestId(2) });
    assert_eq!(actions, [Action::Kill]);
    assert_eq!(scheduler.step(now, Input::Gone), [Action::Exit]);
}

#[test]
fn unloading_sleeps_until_the_next_request() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(bounds());
    ready(&mut scheduler, now);
    assert_eq!(scheduler.step(now, Input::Unload), [Action::Kill]);
    assert_eq!(scheduler.step(now, Input::Gone), []);
    assert_eq!(scheduler.state().0, State::Sleeping);
    assert!(
        scheduler
            .step(now, request(1, 0, now))
            .contains(&Action::Start)
    );
}

#[test]
fn a_light_user_waits_for_one_running_request_of_a_hog() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(Bounds {
        queue: 32,
        per_uid: 21,
        parallel: 1,
        ..bounds()
    });
    scheduler.step(now, Input::Load);
    scheduler.step(now, Input::Ready { parallel: 1 });
    for id in 1..=21 {
        scheduler.step(now, request(id, 1000, now));
    }
    let actions = scheduler.step(now, request(22, 1001, now));
    assert!(actions.contains(&Action::Position(RequestId(22), 0)));
    let next = scheduler.step(now, Input::Ended { id: RequestId(1) });
    assert_eq!(next[0], Action::Dispatch(RequestId(22)));
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_at_once() {
    let mut now = Instant::now();
    let mut scheduler = Scheduler::new(Bounds {
        queue: 9,
        per_uid: 9,
        parallel: 1,
        ..bounds()
    });
    scheduler.step(now, Input::Load);
    scheduler.step(now, Input::Ready { parallel: 1 });
    for id in 1..=3 {
        scheduler.step(now, request(id, 0, now));
        now += Duration::from_secs(8);
        scheduler.step(now, Input::Ended { id: RequestId(id) });
        scheduler.step(now, Input::Alive);
    }
    // One runs, then 0 to 3 are before the next: of 8 s each, three leave too little of 30 s only
    // together with what comes after.
    for id in 4..=8 {
        let actions = scheduler.step(now, request(id, 0, now));
        let refused = actions.iter().any(|a| matches!(a, Action::Refuse(..)));
        assert!(!refused, "{id}: {actions:?}");
    }
    let actions = scheduler.step(now, request(9, 0, now));
    let [Action::Refuse(_, error)] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(error.code, ErrorCode::DeadlineExceeded);
    assert!(error.message.contains("32.0 s"), "{error}");
}

#[test]
fn an_engine_without_work_sleeps_after_a_while_and_the_next_request_wakes_it() {
    let mut now = Instant::now();
    let keep_alive = bounds().keep_alive;
    let mut scheduler = Scheduler::new(bounds());
    ready(&mut scheduler, now);
    scheduler.step(now, request(1, 0, now));
    // Work counts, however long it takes.
    for _ in 0..4 {
        now += keep_alive / 4;
        assert_eq!(scheduler.step(now, Input::Alive), []);
    }
    scheduler.step(now, Input::Ended { id: RequestId(1) });
    for _ in 0..3 {
        now += keep_alive / 4;
        assert_eq!(scheduler.step(now, Input::Alive), []);
    }
    now += keep_alive / 4;
    assert!(scheduler.wakeup().is_some_and(|at| at <= now));
    assert_eq!(scheduler.step(now, Input::Tick), [Action::Kill]);
    scheduler.step(now, Input::Gone);
    assert_eq!(scheduler.state().0, State::Sleeping);
    assert_eq!(scheduler.wakeup(), None, "nothing is left to do");
    let woken = scheduler.step(now, request(2, 0, now));
    assert!(woken.contains(&Action::Start));
}

#[test]
fn an_engine_that_reads_what_is_pinned_stays() {
    let mut now = Instant::now();
    let mut scheduler = Scheduler::new(bounds());
    ready(&mut scheduler, now);
    for _ in 0..100 {
        now += bounds().keep_alive / 4;
        assert_eq!(scheduler.step(now, Input::Alive), []);
        assert_eq!(scheduler.step(now, Input::Busy), []);
    }
    now += bounds().keep_alive;
    assert_eq!(scheduler.step(now, Input::Tick), [Action::Kill]);
}

#[test]
fn a_request_says_how_long_the_engine_stays_after_it() {
    let mut now = Instant::now();
    let mut scheduler = Scheduler::new(bounds());
    ready(&mut scheduler, now);
    let ask = |scheduler: &mut Scheduler, now, id, keep_alive| {
        scheduler.step(
            now,
            Input::Submit {
                id: RequestId(id),
                uid: 0,
                class: Class::Chat,
                deadline: now + Duration::from_secs(30),
                keep_alive: Some(keep_alive),
            },
        );
        scheduler.step(now, Input::Ended { id: RequestId(id) });
    };
    ask(&mut scheduler, now, 1, Duration::ZERO);
    for _ in 0..100 {
        now += bounds().hang_timeout / 2;
        assert_eq!(scheduler.step(now, Input::Alive), []);
    }
    ask(&mut scheduler, now, 2, Duration::from_secs(1));
    now += Duration::from_secs(1);
    assert_eq!(scheduler.step(now, Input::Tick), [Action::Kill]);
}

#[test]
fn scarce_memory_stops_admission_and_then_ends_an_idle_engine() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(bounds());
    ready(&mut scheduler, now);
    for id in 1..=3 {
        scheduler.step(now, request(id, 0, now));
    }
    assert_eq!(scheduler.step(now, Input::Pressure(Level::Cache)), []);
    assert_eq!(scheduler.step(now, Input::Pressure(Level::Admission)), []);
    let refused = scheduler.step(now, request(4, 1, now));
    assert!(
        matches!(&refused[..], [Action::Refuse(_, e)] if e.code == ErrorCode::Busy && e.retry_after_ms.is_some())
    );
    // What runs may end; what waits is told.
    let actions = scheduler.step(now, Input::Pressure(Level::Model));
    assert_eq!(failures(&actions), [(3, ErrorCode::Busy)]);
    assert!(!actions.contains(&Action::Kill));
    scheduler.step(now, Input::Ended { id: RequestId(1) });
    let actions = scheduler.step(now, Input::Ended { id: RequestId(2) });
    assert_eq!(actions, [Action::Kill]);
    scheduler.step(now, Input::Gone);
    assert_eq!(scheduler.state().0, State::Sleeping);
    let refused = scheduler.step(now, request(5, 1, now));
    assert!(matches!(&refused[..], [Action::Refuse(..)]));
    scheduler.step(now, Input::Pressure(Level::Cache));
    assert!(
        scheduler
            .step(now, request(6, 1, now))
            .contains(&Action::Start)
    );
}
