//! Which thing is meant among those of like names, and verbs that are more than one word.

use super::*;

fn like_names() -> Value {
    let target = |id: &str, name: &str, kind: &str| json!({"id": id, "name": name, "kind": kind});
    json!({
        "tools": [
            {"name": "turn_on", "acts_on": {"kinds": ["light", "fan", "media_player"]}},
            {"name": "turn_off", "acts_on": {"kinds": ["light", "fan", "media_player"]}},
            {"name": "toggle", "acts_on": {"kinds": ["light", "fan"]}},
            {"name": "decrease_speed", "acts_on": {"kinds": ["fan"]}},
            {"name": "open_cover", "acts_on": {"kinds": ["garage_door", "bin"]}},
            {"name": "close_cover", "acts_on": {"kinds": ["garage_door", "bin"]}},
            {"name": "lock", "acts_on": {"kinds": ["lock"]}},
            {"name": "unlock", "acts_on": {"kinds": ["lock"]}},
            {"name": "start", "acts_on": {"kinds": ["vacuum"]}},
            {"name": "stop", "acts_on": {"kinds": ["vacuum"]}},
        ],
        "targets": [
            target("garage_door.side", "Side Garage Door", "garage_door"),
            target("garage_door.main", "Main Garage Door", "garage_door"),
            target("lock.side", "Garage Side Door", "lock"),
            target("lock.roof", "Rooftop Access", "lock"),
            target("fan.kitchen", "Kitchen Fan", "fan"),
            target("fan.attic", "Attic Fan", "fan"),
            target("light.bar", "Bar Lamp", "light"),
            target("media.kitchen", "Kitchen Media Player", "media_player"),
            target("media.radio", "Kitchen Radio Player", "media_player"),
            target("vacuum", "Vacuum", "vacuum"),
            target("bin", "Will", "bin"),
        ],
    })
}

#[test]
fn words_are_meant_in_their_order() {
    assert_reads(
        &like_names(),
        &[
            (
                "raise the side garage door",
                &["open_cover garage_door.side"],
            ),
            ("unlock the garage side door", &["unlock lock.side"]),
            (
                "turn off the kitchen media player",
                &["turn_off media.kitchen"],
            ),
            (
                "turn off the player in the kitchen",
                &["turn_off media.kitchen"],
            ),
        ],
    );
}

#[test]
fn what_stands_before_a_name_says_which() {
    for text in [
        "turn on the cooling kitchen fan",
        "turn off the outdoor kitchen fan",
    ] {
        let answer = read_with(&like_names(), text, &Options::default());
        assert_ne!(answer.outcome, Outcome::Call, "{text}: {answer:?}");
    }
    assert_reads(
        &like_names(),
        &[
            ("turn on the kitchen area fan", &["turn_on fan.kitchen"]),
            ("turn on the attic attic fan", &["turn_on fan.attic"]),
        ],
    );
}

#[test]
fn verbs_of_several_words_are_read() {
    assert_reads(
        &like_names(),
        &[
            ("light up the bar", &["turn_on light.bar"]),
            ("switch the state of the attic fan", &["toggle fan.attic"]),
            ("turn down the attic fan", &["decrease_speed fan.attic"]),
            ("open the lock of the rooftop door", &["unlock lock.roof"]),
            ("stop the vacuum", &["stop vacuum"]),
            (
                "turn off the bar lamp and lock the garage side door",
                &["turn_off light.bar", "lock lock.side"],
            ),
        ],
    );
}

#[test]
fn a_name_that_is_a_word_of_grammar_is_heard_where_a_name_stands() {
    assert_reads(
        &like_names(),
        &[
            ("open the will", &["open_cover bin"]),
            ("close will", &["close_cover bin"]),
            ("will you turn on the bar lamp", &["turn_on light.bar"]),
        ],
    );
}
