"""Tests of what the hub says yes to, without a bus: python -m unittest, in this folder."""

import argparse
import asyncio
import json
import unittest

from dbus_fast import DBusError
from home import simulated
from hub import Hub, bus_tool, variant

FRONT = {"targets": ["lock.front"], "language": "en"}


class Person:
    """A terminal at which somebody says these lines, and then nothing any more."""

    def __init__(self, *lines):
        self.lines = list(lines)
        self.seen = []

    async def line(self, prompt):
        if not self.lines:
            await asyncio.sleep(3600)
        return self.lines.pop(0)

    def log(self, text):
        self.seen.append(text)

    def draw(self):
        pass


def hub(*lines, pin=None):
    return Hub(simulated(), Person(*lines), argparse.Namespace(pin=pin, name="home", area=None))


class Confirming(unittest.IsolatedAsyncioTestCase):
    def is_open(self, hub):
        return hub.home.things["lock.front"].state["state"] == "unlocked"

    async def test_yes_opens_once_and_for_what_was_asked(self):
        ours = hub("yes", "ja")
        self.assertTrue(await ours.confirm("c1", "unlock", FRONT))
        self.assertEqual(ours.terminal.seen, ["Please confirm: unlock Front Door"])
        self.assertEqual(ours.invoke("c1", "unlock", {}, FRONT), {"success": True})
        self.assertTrue(self.is_open(ours))
        ours.invoke("c2", "lock", {}, FRONT)
        with self.assertRaises(DBusError):
            ours.invoke("c1", "unlock", {}, FRONT)
        self.assertTrue(await ours.confirm("c3", "unlock", {"targets": ["lock.back"]}))
        with self.assertRaises(DBusError):
            ours.invoke("c3", "unlock", {}, FRONT)
        self.assertFalse(self.is_open(ours))

    async def test_anything_else_does_not(self):
        for said, pin in [("no", None), ("", None), (None, None), ("yes please", None), ("yes", "2468"), ("246", "2468")]:
            with self.subTest(said=said, pin=pin):
                ours = hub(said, pin=pin)
                self.assertFalse(await ours.confirm("c1", "unlock", FRONT))
                with self.assertRaises(DBusError):
                    ours.invoke("c1", "unlock", {}, FRONT | {"confirmed": True})
                self.assertFalse(self.is_open(ours))
        self.assertTrue(await hub("2468", pin="2468").confirm("c1", "unlock", FRONT))
        self.assertFalse(await hub("yes").confirm("c1", "explode", FRONT))

    async def test_a_question_ends_with_its_time_or_when_nobody_waits(self):
        self.assertFalse(await hub().confirm("c1", "unlock", FRONT | {"deadline_ms": 1}))
        ours = hub()
        asked = asyncio.create_task(ours.confirm("c1", "unlock", FRONT))
        while not ours.confirming:
            await asyncio.sleep(0)
        ours.cancel("c1")
        self.assertFalse(await asked)
        # What was confirmed for a call that nobody waits for any more is void, too.
        ours = hub("yes")
        self.assertTrue(await ours.confirm("c1", "unlock", FRONT))
        ours.cancel("c1")
        with self.assertRaises(DBusError):
            ours.invoke("c1", "unlock", {}, FRONT)


class Telling(unittest.TestCase):
    def test_definitions_fit_the_bus(self):
        tools = {tool["name"]: bus_tool(tool) for tool in simulated().definition()["tools"]}
        dim = tools["set_brightness"]
        self.assertEqual((dim["kinds"].signature, dim["kinds"].value), ("as", ["light"]))
        self.assertEqual(json.loads(dim["parameters"].value)["required"], ["brightness"])
        self.assertNotIn("acts_on", dim)
        self.assertEqual(tools["unlock"]["dangerous"].signature, "b")
        signatures = [variant(value).signature for value in (True, 1, 1.5, "a", ["a"], {"a": 1})]
        self.assertEqual(signatures, ["b", "x", "d", "s", "as", "a{sv}"])
        with self.assertRaises(TypeError):
            variant(None)


if __name__ == "__main__":
    unittest.main()
