"""A simulated home: what is in it, how it is, and what becomes of it. It knows nothing of D-Bus.

A real hub has its devices in place of this file; `tools.py` says what can be done with them, and
`hub.py` is the way from and to hobd.
"""

from dataclasses import dataclass, field

from tools import TOOLS, Fault, Words

CLEANING_SECONDS = 1200
NAMED_MAX = 3
REST = Words("the rest is done", "der Rest ist erledigt")


@dataclass
class Thing:
    """Something in the home. Its `state` holds what hobd may tell of it, and the values that
    "a bit brighter" counts from, by the name of the tool's argument."""

    id: str
    name: str
    german: str
    area: str
    floor: str
    state: dict
    aliases: tuple = ()
    capabilities: tuple = ()
    fault: Fault | None = None

    @property
    def kind(self):
        return self.id.split(".")[0]

    def called(self, language):
        return self.german if language == "de" else self.name

    def definition(self):
        """This thing as hobd's HTTP API takes a target."""
        aliases = [self.german, *self.aliases]
        fields = {"id": self.id, "name": self.name, "aliases": aliases, "kind": self.kind}
        fields |= {"area": self.area, "floor": self.floor}
        if self.capabilities:
            fields["capabilities"] = list(self.capabilities)
        return fields | {"state": dict(self.state)}


@dataclass(frozen=True)
class Result:
    """What became of a call: `speech` is to be said, and `error` tells why it failed."""

    success: bool
    speech: str = ""
    error: str = ""


@dataclass
class Home:
    things: dict
    timers: list = field(default_factory=list)
    changed: set = field(default_factory=set)
    cleaned: float = 0

    def definition(self):
        """This home as hobd's HTTP API takes a provider."""
        return {
            "tools": [tool.definition() for tool in TOOLS.values()],
            "targets": [thing.definition() for thing in self.things.values()],
        }

    def invoke(self, name, arguments, ids, language="en"):
        """Does what a call says. hobd checked it against what the home registered; what has gone
        since is refused here."""
        failed, said = [], []
        try:
            tool, things = self._find(name, ids)
        except Fault as fault:
            return Result(False, error=fault.words.text(language))
        for on in things or [self]:
            try:
                said.append(self._run(tool, on, arguments))
            except Fault as fault:
                whose = f"{on.called(language)}: " if len(things) > 1 else ""
                failed.append(whose + fault.words.text(language))
        if failed and len(failed) < len(things):
            failed.append(REST.text(language))
        speech = " ".join(words.text(language) for words in said if words)
        if language == "de" and 0 < len(things) <= NAMED_MAX and not failed:
            # Of itself hobd says the names that came first, which are English here.
            speech = f"Erledigt: {', '.join(thing.german for thing in things)}."
        return Result(not failed, speech, "; ".join(failed))

    def _find(self, name, ids):
        tool = TOOLS.get(name)
        things = [self.things[id] for id in ids if id in self.things]
        if tool is None or len(things) != len(ids):
            raise Fault("that is not here any more", "das gibt es hier nicht mehr")
        if bool(things) != bool(tool.kinds) or not all(map(tool.acts_on, things)):
            raise Fault("that can't be done with it", "das geht damit nicht")
        return tool, things

    def _run(self, tool, on, arguments):
        if on is self:
            return tool.run(self, **arguments)
        if on.fault:
            raise on.fault
        before = dict(on.state)
        words = tool.run(on, **arguments)
        if on.state != before:
            self.changed.add(on.id)
        return words

    def tick(self, seconds):
        """Lets time pass, and returns what is to be told of it."""
        told = []
        for timer in self.timers:
            timer.left -= seconds
        over = [timer for timer in self.timers if timer.left <= 0]
        self.timers = [timer for timer in self.timers if timer.left > 0]
        told += [f"The timer for {timer.duration('en')} is over." for timer in over]
        robot = self.things["vacuum.robot"]
        self.cleaned = self.cleaned + seconds if robot.state["state"] == "cleaning" else 0
        if self.cleaned >= CLEANING_SECONDS:
            self.invoke("return_to_dock", {}, [robot.id])
            told.append("The vacuum is done, and back at its dock.")
        return told

    def take_changed(self):
        """The things that changed since this was last asked."""
        changed = [thing for thing in self.things.values() if thing.id in self.changed]
        self.changed.clear()
        return changed


def _things():
    down, up = "Downstairs", "Upstairs"

    def light(id, name, german, area, floor, brightness=80, **more):
        state = {"state": "off", "brightness": brightness, "tone": "neutral"}
        return Thing(f"light.{id}", name, german, area, floor, state, capabilities=("dim", "tone"), **more)

    def cover(id, name, german, area, floor, **more):
        return Thing(f"cover.{id}", name, german, area, floor, {"state": "open", "position": 100}, **more)

    def climate(id, name, german, area, floor, temperature, measured):
        state = {"mode": "heat", "temperature": temperature, "measured": measured}
        return Thing(f"climate.{id}", name, german, area, floor, state)

    def media(id, name, german, area, floor, **more):
        return Thing(f"media_player.{id}", name, german, area, floor, {"state": "off", "volume": 30}, **more)

    def vacuum(id, name, german, area, floor, **more):
        return Thing(f"vacuum.{id}", name, german, area, floor, {"state": "docked"}, **more)

    def door(id, name, german, area, floor, **more):
        return Thing(f"lock.{id}", name, german, area, floor, {"state": "locked"}, **more)

    jammed = Fault("the motor is jammed", "der Motor klemmt")
    empty = Fault("the battery of the lock is empty", "die Batterie des Schlosses ist leer")
    return [
        light("hall", "Hall Light", "Flurlicht", "Hall", down, aliases=("Flurlampe",)),
        door("front", "Front Door", "Haustür", "Hall", down),
        light("kitchen", "Kitchen Light", "Küchenlicht", "Kitchen", down, aliases=("Küchenlampe",)),
        light("counter", "Counter Light", "Arbeitsplattenlicht", "Kitchen", down),
        media("radio", "Kitchen Radio", "Küchenradio", "Kitchen", down, aliases=("Radio",)),
        door("back", "Back Door", "Hintertür", "Kitchen", down, fault=empty),
        light("living", "Living Room Light", "Wohnzimmerlicht", "Living Room", down),
        light("reading", "Reading Lamp", "Leselampe", "Living Room", down),
        cover("living", "Living Room Blinds", "Wohnzimmerrollladen", "Living Room", down),
        climate("living", "Living Room Heating", "Wohnzimmerheizung", "Living Room", down, 21.0, 20.5),
        media("tv", "TV", "Fernseher", "Living Room", down, aliases=("Television",)),
        vacuum("robot", "Robot Vacuum", "Saugroboter", "Living Room", down, aliases=("Staubsauger",)),
        light("bedroom", "Bedroom Light", "Schlafzimmerlicht", "Bedroom", up),
        light("bedside", "Bedside Lamp", "Nachttischlampe", "Bedroom", up, brightness=30),
        cover("bedroom", "Bedroom Blinds", "Schlafzimmerrollladen", "Bedroom", up),
        climate("bedroom", "Bedroom Heating", "Schlafzimmerheizung", "Bedroom", up, 18.0, 17.5),
        light("bathroom", "Bathroom Light", "Badlicht", "Bathroom", up),
        climate("bathroom", "Bathroom Heating", "Badheizung", "Bathroom", up, 22.0, 21.0),
        light("desk", "Desk Lamp", "Schreibtischlampe", "Study", up, brightness=60),
        cover("study", "Study Blinds", "Arbeitszimmerrollladen", "Study", up, fault=jammed),
    ]


def simulated():
    """The home of this example."""
    return Home({thing.id: thing for thing in _things()})
