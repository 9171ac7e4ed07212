//! `Decide` over the bus.

use std::collections::HashMap;

use hob_e2e::{Setup, patiently};
use zbus::Variant;

use crate::caller::{Caller, Options, name_and_text};
use crate::nothing_active;

fn question<'a>(kind: &'a str, criteria: Option<Variant<'a>>) -> Variant<'a> {
    let mut fields = Options::from([
        ("type", kind.into()),
        ("instructions", "What is it about?".into()),
    ]);
    fields.extend(criteria.map(|criteria| ("criteria", criteria)));
    fields.into()
}

fn options(names: &[&'static str]) -> Variant<'static> {
    let meanings = names.iter().map(|name| (*name, ""));
    Variant::from(meanings.collect::<HashMap<_, _>>())
}

#[tokio::test]
async fn the_real_model_answers_each_type() {
    let daemon = Setup::real().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let assistant = caller.assistant().await;
    let questions = Options::from([
        (
            "topic",
            question("choice", Some(options(&["music", "sport", "cooking"]))),
        ),
        (
            "quick",
            question("score", Some(vec!["slow", "fast"].into())),
        ),
        ("so", question("noul", None)),
    ]);
    let state = "The bass player tuned his guitar before the concert.";
    let decided = assistant.decide(state, questions, Options::new());
    let answers = patiently("the answers", decided).await.unwrap();
    let answer =
        |id: &str| HashMap::<String, Variant<'_>>::try_from(answers[id].try_clone().unwrap());
    let topic = answer("topic").unwrap();
    assert_eq!(topic["type"], Variant::from("choice"));
    assert_eq!(topic["choice"], Variant::from("music"));
    let probabilities = topic["probabilities"].try_clone().unwrap();
    let probabilities = HashMap::<String, f64>::try_from(probabilities).unwrap();
    let sum: f64 = probabilities.values().sum();
    assert!(
        (sum - 1.0).abs() < 1e-6 && probabilities.len() == 3,
        "{probabilities:?}"
    );
    let quick = answer("quick").unwrap();
    let score = f64::try_from(quick["score"].try_clone().unwrap()).unwrap();
    assert!((0.0..=1.0).contains(&score), "{score}");
    let legend = HashMap::<String, String>::try_from(quick["legend"].try_clone().unwrap()).unwrap();
    assert_eq!(legend["1"], "fast");
    let so = answer("so").unwrap();
    let noul = f64::try_from(so["noul"].try_clone().unwrap()).unwrap();
    assert!((0.0..=1.0).contains(&noul), "{noul}");
}

#[tokio::test]
async fn what_is_no_question_is_refused_by_name() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let assistant = caller.assistant().await;
    let noul = || Options::from([("q", question("noul", None))]);
    let none = Options::new;
    let long = "x".repeat(1 << 17);
    let invalid = "org.freedesktop.DBus.Error.InvalidArgs";
    for (state, questions, options, name, word) in [
        ("x", Options::new(), none(), invalid, "`questions`"),
        ("", noul(), none(), invalid, "`state`"),
        (
            "x",
            Options::from([("q", "Wet?".into())]),
            none(),
            invalid,
            "`questions.q`",
        ),
        (
            "x",
            Options::from([("q", question("choice", Some(options(&[]))))]),
            none(),
            invalid,
            "`questions.q.criteria`",
        ),
        (
            "x",
            noul(),
            Options::from([("seed", 1_u32.into())]),
            invalid,
            "`seed`",
        ),
        (
            &long,
            noul(),
            none(),
            "org.freedesktop.DBus.Error.LimitsExceeded",
            "`state`",
        ),
    ] {
        let error = assistant
            .decide(state, questions, options)
            .await
            .unwrap_err();
        let (got, text) = name_and_text(&error);
        assert_eq!(got, name, "{text}");
        assert!(text.contains(word), "{text}");
    }
}

#[tokio::test]
async fn it_is_cancelled_through_its_object_and_by_leaving() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let assistant = caller.assistant().await;
    let noul = || Options::from([("q", question("noul", None))]);
    let token = || Options::from([("handle_token", "mine".into())]);
    let request = caller.request("mine").await;
    let decided = assistant.decide("fake: slow 30000.", noul(), token());
    let cancelled = async {
        daemon
            .until_status("it is under way", |s| s.active == 1)
            .await;
        request.cancel().await.unwrap();
    };
    let (decided, ()) = tokio::join!(patiently("the reply", decided), cancelled);
    let (name, _) = name_and_text(&decided.unwrap_err());
    assert_eq!(name, "org.hobd.Hob1.Error.Cancelled");
    nothing_active(&daemon).await;

    drop((assistant, request));
    let leaving = tokio::spawn(async move {
        let assistant = caller.assistant().await;
        let decided = assistant.decide("fake: slow 30000.", noul(), token()).await;
        drop(caller);
        decided.is_ok()
    });
    daemon
        .until_status("it is under way", |s| s.active == 1)
        .await;
    leaving.abort();
    nothing_active(&daemon).await;
}
