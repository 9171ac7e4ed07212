"""Tests of what needs no bus: python -m unittest, in this folder."""

import json
import pathlib
import re
import unittest

import view
from home import CLEANING_SECONDS, simulated
from tools import TIMERS_MAX, TOOLS

SENTENCES = pathlib.Path(__file__).with_name("sentences.jsonl")

# A call of each tool, and what becomes of the state.
CALLS = [
    ("turn_on", {}, "light.desk", {"state": "on"}),
    ("turn_on", {}, "media_player.tv", {"state": "playing"}),
    ("turn_off", {}, "light.desk", {"state": "off"}),
    ("set_brightness", {"brightness": 20}, "light.desk", {"state": "on", "brightness": 20}),
    ("set_brightness", {"brightness": 0}, "light.desk", {"state": "off", "brightness": 0}),
    ("set_tone", {"tone": "warm"}, "light.desk", {"tone": "warm"}),
    ("close_cover", {}, "cover.living", {"state": "closed", "position": 0}),
    ("set_position", {"position": 30}, "cover.living", {"state": "half open", "position": 30}),
    ("open_cover", {}, "cover.living", {"state": "open", "position": 100}),
    ("set_temperature", {"temperature": 19.5}, "climate.living", {"temperature": 19.5}),
    ("set_mode", {"mode": "eco"}, "climate.living", {"mode": "eco"}),
    ("unlock", {}, "lock.front", {"state": "unlocked"}),
    ("lock", {}, "lock.front", {"state": "locked"}),
    ("play", {}, "media_player.radio", {"state": "playing"}),
    ("pause", {}, "media_player.radio", {"state": "paused"}),
    ("set_volume", {"volume": 5}, "media_player.radio", {"volume": 5}),
    ("start_cleaning", {}, "vacuum.robot", {"state": "cleaning"}),
    ("return_to_dock", {}, "vacuum.robot", {"state": "docked"}),
]


class Doing(unittest.TestCase):
    def setUp(self):
        self.home = simulated()

    def test_each_tool_does_what_it_says(self):
        for tool, arguments, thing, expected in CALLS:
            with self.subTest(tool=tool, arguments=arguments):
                result = self.home.invoke(tool, arguments, [thing])
                self.assertTrue(result.success, result)
                self.assertEqual(self.home.things[thing].state, self.home.things[thing].state | expected)
        self.assertEqual({call[0] for call in CALLS} | {"start_timer", "cancel_timer"}, set(TOOLS))

    def test_only_what_changed_is_told_and_once(self):
        self.home.invoke("turn_on", {}, ["light.desk", "light.hall"])
        self.home.invoke("turn_on", {}, ["light.desk"])
        self.assertEqual([thing.id for thing in self.home.take_changed()], ["light.hall", "light.desk"])
        self.home.invoke("turn_on", {}, ["light.desk"])
        self.assertEqual(self.home.take_changed(), [])

    def test_what_is_broken_fails_and_the_rest_is_done(self):
        result = self.home.invoke("close_cover", {}, ["cover.living", "cover.study"])
        self.assertEqual((result.success, result.error), (False, "Study Blinds: the motor is jammed; the rest is done"))
        self.assertEqual([thing.id for thing in self.home.take_changed()], ["cover.living"])
        self.assertEqual(self.home.things["cover.study"].state["state"], "open")
        result = self.home.invoke("unlock", {}, ["lock.back"], "de")
        self.assertEqual((result.speech, result.error), ("", "die Batterie des Schlosses ist leer"))
        self.assertEqual(self.home.things["lock.back"].state["state"], "locked")

    def test_few_names_are_said_in_german(self):
        result = self.home.invoke("turn_on", {}, ["light.desk", "light.hall"], "de")
        self.assertEqual(result.speech, "Erledigt: Schreibtischlampe, Flurlicht.")
        lights = [id for id in self.home.things if id.startswith("light.")]
        self.assertEqual(self.home.invoke("turn_on", {}, lights, "de").speech, "")
        self.assertEqual(self.home.invoke("turn_on", {}, ["light.desk"]).speech, "")

    def test_a_call_that_is_no_longer_valid_changes_nothing(self):
        for tool, things in [
            ("explode", []),
            ("turn_on", ["light.attic"]),
            ("turn_on", ["light.desk", "light.attic"]),
            ("turn_on", []),
            ("unlock", ["light.desk"]),
            ("cancel_timer", ["light.desk"]),
        ]:
            with self.subTest(tool=tool, things=things):
                result = self.home.invoke(tool, {}, things)
                self.assertFalse(result.success)
                self.assertNotEqual(result.error, "")
        self.assertEqual(self.home.take_changed(), [])

    def test_timers_run_end_and_are_cancelled(self):
        result = self.home.invoke("start_timer", {"seconds": 3661}, [], "de")
        self.assertEqual(result.speech, "Ein Timer über 1 Stunde 1 Minute 1 Sekunde läuft.")
        self.home.invoke("start_timer", {"seconds": 600}, [])
        self.assertEqual(self.home.tick(599), [])
        self.assertEqual(self.home.tick(1), ["The timer for 10 minutes is over."])
        result = self.home.invoke("cancel_timer", {}, [])
        self.assertEqual(result.speech, "The timer for 1 hour 1 minute 1 second is cancelled.")
        result = self.home.invoke("cancel_timer", {}, [])
        self.assertEqual((result.success, result.error), (False, "no timer is running"))
        results = [self.home.invoke("start_timer", {"seconds": 60}, []).success for _ in range(TIMERS_MAX + 1)]
        self.assertEqual(results, [True] * TIMERS_MAX + [False])

    def test_the_vacuum_comes_home_by_itself(self):
        self.home.invoke("start_cleaning", {}, ["vacuum.robot"])
        self.home.take_changed()
        self.assertEqual(self.home.tick(CLEANING_SECONDS - 1), [])
        self.assertEqual(len(self.home.tick(1)), 1)
        self.assertEqual([thing.state["state"] for thing in self.home.take_changed()], ["docked"])


class Telling(unittest.TestCase):
    def test_examples_have_slots_that_exist(self):
        for tool in TOOLS.values():
            slots = set(re.findall(r"{(\w+)}", " ".join(tool.examples)))
            allowed = set(tool.parameters or ()) | ({"target"} if tool.kinds else set())
            self.assertLessEqual(slots, allowed, tool.name)

    def test_each_sentence_means_something_that_exists(self):
        home = simulated()
        lines = SENTENCES.read_text(encoding="utf-8").splitlines()
        self.assertEqual(len(lines), 60)
        for sentence in map(json.loads, lines):
            with self.subTest(text=sentence["text"]):
                if "tool" not in sentence:
                    self.assertIn(sentence["outcome"], ("question", "unsure", "cannot", "talk"))
                    continue
                tool = TOOLS[sentence["tool"]]
                things = [home.things[id] for id in sentence.get("targets", [])]
                self.assertTrue(all(map(tool.acts_on, things)))
                self.assertEqual(bool(things), bool(tool.kinds))
                self.assertEqual(set(sentence.get("arguments", {})), set(tool.parameters or ()))

    def test_the_home_fits_into_80_columns_however_it_is(self):
        home = simulated()
        for _ in range(TIMERS_MAX):
            home.invoke("start_timer", {"seconds": 86400}, [])
        for tool, arguments, thing, _ in CALLS:
            home.invoke(tool, arguments, [thing])
            if "brightness" in arguments:
                home.invoke(tool, {"brightness": 100}, [thing])
            lines = view.home(home)
            self.assertLessEqual(max(map(len, lines)), view.WIDTH, lines)
            plain = re.sub("\x1b\\[[0-9]*m", "", "\n".join(view.home(home, color=True)))
            self.assertEqual([line.rstrip() for line in plain.split("\n")], lines)

    def test_what_a_terminal_would_obey_is_not_written(self):
        self.assertEqual(view.clean("a\x1b[2Jb\u202ec\x07 ü"), "a[2Jbc ü")


if __name__ == "__main__":
    unittest.main()
