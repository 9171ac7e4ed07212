"""What can be done in the home: each function is a tool, and its docstring what hobd is told of it.

A tool with `kinds` acts on things of these kinds, one at a time; a tool without acts on the home.
`examples` are what people say when they want it, with `{target}` and `{argument}` for what differs.
"""

from dataclasses import dataclass
from typing import Callable

TIMERS_MAX = 6
UNITS = {
    "en": (("hour", "hours"), ("minute", "minutes"), ("second", "seconds")),
    "de": (("Stunde", "Stunden"), ("Minute", "Minuten"), ("Sekunde", "Sekunden")),
}


@dataclass(frozen=True)
class Words:
    """Something to say, in both languages of this home."""

    en: str
    de: str

    def text(self, language):
        return self.de if language == "de" else self.en


class Fault(Exception):
    """Why something can't be done."""

    def __init__(self, en, de):
        super().__init__(en)
        self.words = Words(en, de)


@dataclass
class Timer:
    seconds: int
    left: float

    def duration(self, language):
        hours, minutes, seconds = self.seconds // 3600, self.seconds // 60 % 60, self.seconds % 60
        counts = zip((hours, minutes, seconds), UNITS["de" if language == "de" else "en"])
        return " ".join(f"{count} {one if count == 1 else many}" for count, (one, many) in counts if count)


@dataclass(frozen=True)
class Tool:
    """Something that can be done. `run` gets a thing, or the home, and the arguments by name; it
    raises a `Fault`, or may return `Words` to be said."""

    name: str
    description: str
    examples: tuple
    run: Callable
    kinds: tuple = ()
    capabilities: tuple = ()
    parameters: dict | None = None
    dangerous: bool = False

    def definition(self):
        """This tool as hobd's HTTP API takes it."""
        fields = {"name": self.name, "description": self.description}
        if self.parameters:
            required = sorted(self.parameters)
            fields["parameters"] = {"type": "object", "properties": self.parameters, "required": required}
        if self.kinds:
            fields["acts_on"] = {"kinds": list(self.kinds)}
            if self.capabilities:
                fields["acts_on"]["capabilities"] = list(self.capabilities)
        if self.dangerous:
            fields["dangerous"] = True
        return fields | {"examples": list(self.examples)}

    def acts_on(self, thing):
        return thing.kind in self.kinds and set(self.capabilities) <= set(thing.capabilities)


TOOLS = {}


def tool(*examples, **about):
    def add(run):
        TOOLS[run.__name__] = Tool(run.__name__, run.__doc__, examples, run, **about)
        return run

    return add


def percent(**more):
    return {"type": "integer", "minimum": 0, "maximum": 100, "description": "percent"} | more


@tool(
    "turn on the {target}", "switch the {target} on", "it is too dark in here",
    "schalte {target} ein", "mach {target} an", "{target} an",
    kinds=("light", "media_player"),
)
def turn_on(thing):
    """switch something on"""
    thing.state["state"] = "on" if thing.kind == "light" else "playing"


@tool(
    "turn off the {target}", "switch the {target} off", "{target} out",
    "schalte {target} aus", "mach {target} aus", "{target} aus",
    kinds=("light", "media_player"),
)
def turn_off(thing):
    """switch something off"""
    thing.state["state"] = "off"


@tool(
    "dim the {target} to {brightness} percent", "set the {target} to {brightness} percent",
    "make the {target} brighter", "make the {target} darker",
    "dimme {target} auf {brightness} Prozent", "stell {target} auf {brightness} Prozent",
    "mach {target} heller", "mach {target} dunkler",
    kinds=("light",), capabilities=("dim",), parameters={"brightness": percent()},
)
def set_brightness(thing, brightness):
    """dim or brighten a light to a brightness in percent"""
    thing.state["state"] = "on" if brightness else "off"
    thing.state["brightness"] = brightness


@tool(
    "make the {target} {tone} white", "set the {target} to {tone} light",
    "stell {target} auf warmes Licht", "mach {target} kaltweiß",
    kinds=("light",), capabilities=("tone",),
    parameters={"tone": {"type": "string", "enum": ["warm", "neutral", "cool"], "description": "colour temperature"}},
)
def set_tone(thing, tone):
    """make the white of a light warmer or cooler"""
    thing.state["tone"] = tone


@tool(
    "open the {target}", "raise the {target}", "öffne {target}", "fahr {target} hoch", "mach {target} auf",
    kinds=("cover",),
)
def open_cover(thing):
    """open blinds"""
    set_position(thing, 100)


@tool(
    "close the {target}", "lower the {target}", "schließe {target}", "fahr {target} runter", "mach {target} zu",
    kinds=("cover",),
)
def close_cover(thing):
    """close blinds"""
    set_position(thing, 0)


@tool(
    "open the {target} to {position} percent", "put the {target} at {position} percent",
    "fahr {target} auf {position} Prozent", "{target} auf {position} Prozent",
    kinds=("cover",), parameters={"position": percent(description="percent open")},
)
def set_position(thing, position):
    """move blinds to a position in percent"""
    thing.state["position"] = position
    thing.state["state"] = {0: "closed", 100: "open"}.get(position, "half open")


@tool(
    "set the {target} to {temperature} degrees", "make it warmer", "make it colder",
    "stell {target} auf {temperature} Grad", "mach es wärmer", "mach es kälter",
    kinds=("climate",),
    parameters={"temperature": {"type": "number", "minimum": 5, "maximum": 28, "description": "degrees"}},
)
def set_temperature(thing, temperature):
    """make it warmer or colder: a temperature in degrees"""
    thing.state["temperature"] = temperature


@tool(
    "switch the {target} to {mode} mode", "turn the {target} off", "turn the {target} on",
    "schalte {target} auf Sparbetrieb", "schalte {target} aus", "{target} aus",
    kinds=("climate",),
    parameters={"mode": {"type": "string", "enum": ["heat", "eco", "off"], "description": "heating mode"}},
)
def set_mode(thing, mode):
    """switch a heating to heat, to eco, or off"""
    thing.state["mode"] = mode


@tool("lock the {target}", "verriegle {target}", "schließ {target} ab", kinds=("lock",))
def lock(thing):
    """lock a door"""
    thing.state["state"] = "locked"


@tool(
    "unlock the {target}", "entriegle {target}", "schließ {target} auf", "sperr {target} auf",
    kinds=("lock",), dangerous=True,
)
def unlock(thing):
    """unlock a door"""
    thing.state["state"] = "unlocked"


@tool("play music", "play the {target}", "spiel Musik", "spiel {target} weiter", kinds=("media_player",))
def play(thing):
    """play music or go on playing"""
    thing.state["state"] = "playing"


@tool("pause the {target}", "stop the music", "pausiere {target}", "halt die Musik an", kinds=("media_player",))
def pause(thing):
    """pause what plays"""
    if thing.state["state"] == "playing":
        thing.state["state"] = "paused"


@tool(
    "set the volume of the {target} to {volume}", "turn the {target} up", "turn the {target} down",
    "stell {target} auf Lautstärke {volume}", "mach {target} lauter", "mach {target} leiser",
    kinds=("media_player",), parameters={"volume": percent()},
)
def set_volume(thing, volume):
    """make something louder or quieter: a volume in percent"""
    thing.state["volume"] = volume


@tool(
    "start the {target}", "vacuum the floor", "clean the house",
    "starte {target}", "schick {target} los", "saug die Wohnung", kinds=("vacuum",),
)
def start_cleaning(thing):
    """start to vacuum"""
    thing.state["state"] = "cleaning"


@tool(
    "send the {target} home", "send the {target} back to its dock",
    "schick {target} zurück zur Station", "{target} soll zur Ladestation", kinds=("vacuum",),
)
def return_to_dock(thing):
    """send the vacuum back to its dock"""
    thing.state["state"] = "docked"


@tool(
    "set a timer for {seconds}", "start a {seconds} timer", "stell einen Timer auf {seconds}", "Timer für {seconds}",
    parameters={"seconds": {"type": "integer", "minimum": 1, "maximum": 86400, "description": "seconds"}},
)
def start_timer(home, seconds):
    """start a timer for a duration"""
    if len(home.timers) == TIMERS_MAX:
        raise Fault(f"{TIMERS_MAX} timers are running already", f"es laufen schon {TIMERS_MAX} Timer")
    timer = Timer(seconds, seconds)
    home.timers.append(timer)
    return Words(f"A timer for {timer.duration('en')} is running.", f"Ein Timer über {timer.duration('de')} läuft.")


@tool("cancel the timer", "stop the timer", "stopp den Timer", "brich den Timer ab")
def cancel_timer(home):
    """cancel the timer that was started last"""
    if not home.timers:
        raise Fault("no timer is running", "es läuft kein Timer")
    timer = home.timers.pop()
    return Words(
        f"The timer for {timer.duration('en')} is cancelled.", f"Der Timer über {timer.duration('de')} ist gestoppt."
    )
