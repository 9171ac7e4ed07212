use super::*;

fn of(word: &str) -> Meanings {
    meanings(stem(word))
}

#[test]
fn opposites_are_told_apart() {
    for (a, b) in [
        ("on", "off"),
        ("open", "close"),
        ("lock", "unlock"),
        ("increase", "decrease"),
        ("louder", "quieter"),
        ("einschalten", "ausschalten"),
        ("verriegeln", "entriegeln"),
        ("heller", "dunkler"),
    ] {
        let (a_meanings, b_meanings) = (of(a), of(b));
        assert!(a_meanings.opposites().meets(b_meanings), "{a} {b}");
        assert!(b_meanings.opposites().meets(a_meanings), "{a} {b}");
        assert!(!a_meanings.meets(b_meanings), "{a} {b}");
    }
}

#[test]
fn every_pair_of_opposites_is_named_as_one() {
    let name = |place: usize| MEANINGS[place].0;
    let pairs: Vec<_> = OPPOSITES
        .iter()
        .map(|(a, b)| (name(*a), name(*b)))
        .collect();
    let expected = [
        ("#on", "#off"),
        ("#open", "#close"),
        ("#lock", "#unlock"),
        ("#up", "#down"),
        ("#stop", "#start"),
        ("#next", "#previous"),
        ("#mute", "#unmute"),
        ("#play", "#pause"),
        ("#add", "#remove"),
    ];
    assert_eq!(pairs, expected);
}

#[test]
fn families_hold_in_both_languages() {
    assert_eq!(families(stem("lamp")), families(stem("leuchte")));
    assert_eq!(families(stem("blinds")), families(stem("jalousien")));
    assert_eq!(families(stem("poem")), 0);
}

#[test]
fn compounds_are_parted_before_the_thing() {
    let part = |word: &str| parted(&super::super::words::fold_word(word));
    let two = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
    assert_eq!(part("Küchenlicht"), two("kuech", "licht"));
    assert_eq!(part("nightlights"), two("night", "light"));
    assert_eq!(part("Licht"), None);
    assert_eq!(part("bedroom"), None);
}

#[test]
fn german_verbs_end_in_what_they_mean() {
    assert_eq!(end_meanings("aus"), of("off"));
    assert_eq!(end_meanings("an"), of("on"));
    assert!(of("on").meets(of("start")) && of("off").meets(of("stop")));
    assert!(end_meanings("licht").is_empty());
}
