#!/usr/bin/env python3
"""A hub to try: a simulated home that registers with hobd over D-Bus, and does what is said.

    hub.py                     the home in this terminal, and a prompt to say something to it
    hub.py --plain             the same as a log, which needs no terminal
    hub.py --say "SENTENCE"    says one sentence and ends
    hub.py --print-provider    what is registered, as `hob providers add` takes it

Exit codes: 0 for what was done or answered, 1 for what was not, 2 for wrong arguments, 3 without hobd.
"""

import argparse
import asyncio
import contextlib
import hmac
import json
import signal
import sys

import view
from dbus_fast import BusType, DBusError, ErrorType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, dbus_method
from dbus_fast.unpack import unpack_variants
from home import TOOLS, simulated
from terminal import Terminal

HOBD, HOBD_PATH, ASSISTANT = "org.hobd.Hob1", "/org/hobd/Hob1", "org.hobd.Hob1.Assistant"
BUS, BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
PATH = "/org/example/Hub"
ASK_MS = 60_000
NOT_DONE, NO_HOBD = 1, 3


def variant(value):
    """A value of the home's definition as one of D-Bus."""
    match value:
        case bool():
            return Variant("b", value)
        case int():
            return Variant("x", value)
        case float():
            return Variant("d", value)
        case str():
            return Variant("s", value)
        case list():
            return Variant("as", value)
        case dict():
            return Variant("a{sv}", dictionary(value))
    raise TypeError(f"no type of D-Bus for {value!r}")


def dictionary(fields):
    return {key: variant(value) for key, value in fields.items()}


def bus_tool(definition):
    """On D-Bus the schema is text, and what a tool acts on stands beside the rest."""
    fields = definition | definition.get("acts_on", {})
    fields.pop("acts_on", None)
    if "parameters" in fields:
        fields["parameters"] = json.dumps(fields["parameters"])
    return dictionary(fields)


class ToolProvider(ServiceInterface):
    """What hobd calls. The hub's guard lets nobody else through."""

    def __init__(self, hub):
        super().__init__("org.hobd.Hob1.ToolProvider")
        self.hub = hub

    @dbus_method()
    def Invoke(self, call_id: "s", tool: "s", args: "a{sv}", context: "a{sv}") -> "a{sv}":
        return dictionary(self.hub.invoke(call_id, tool, unpack_variants(args), unpack_variants(context)))

    @dbus_method()
    async def Confirm(self, call_id: "s", tool: "s", args: "a{sv}", context: "a{sv}") -> "b":
        return await self.hub.confirm(call_id, tool, unpack_variants(context))

    @dbus_method()
    def Cancel(self, call_id: "s"):
        self.hub.cancel(call_id)

    @dbus_method()
    def Release(self):
        self.hub.released()


class Hub:
    """The home on the bus."""

    def __init__(self, home, terminal, arguments):
        self.home, self.terminal, self.arguments = home, terminal, arguments
        self.hobd = None
        self.registered = asyncio.Event()
        self.registering = None
        self.telling = asyncio.Lock()
        self.told = None
        self.confirming = {}
        self.confirmed = {}

    async def connect(self):
        kind = BusType.SYSTEM if self.arguments.system else BusType.SESSION
        self.bus = await MessageBus(bus_type=kind).connect()
        self.bus.add_message_handler(self.guard)
        self.bus.export(PATH, ToolProvider(self))
        rule = f"type='signal',sender='{BUS}',member='NameOwnerChanged',arg0='{HOBD}'"
        await self.call(BUS, BUS_PATH, BUS, "AddMatch", "s", rule)
        with contextlib.suppress(DBusError):
            # That hobd is not there yet is no error: it is awaited.
            self.owned_by(await self.call(BUS, BUS_PATH, BUS, "GetNameOwner", "s", HOBD))

    async def call(self, to, path, interface, member, signature, *body):
        message = Message(to, path, interface, member, signature=signature, body=list(body))
        reply = await self.bus.call(message)
        if reply.message_type is MessageType.ERROR:
            raise DBusError(reply.error_name, reply.body[0] if reply.body else "")
        return reply.body[0] if len(reply.body) == 1 else reply.body

    async def hob(self, member, signature, *body):
        return await self.call(HOBD, HOBD_PATH, ASSISTANT, member, signature, *body)

    def guard(self, message):
        """Every message passes here first. On a session bus every program of the user could call the
        hub, and so open the door: only hobd, which asks for confirmation, may."""
        if message.message_type is MessageType.SIGNAL:
            if message.sender == BUS and message.member == "NameOwnerChanged" and message.body[0] == HOBD:
                self.owned_by(message.body[2])
        elif message.message_type is MessageType.METHOD_CALL and message.sender != self.hobd:
            if not (message.interface or "").startswith("org.freedesktop.DBus."):
                return Message.new_error(message, ErrorType.ACCESS_DENIED, "only hobd may call this hub")
        return None

    def owned_by(self, owner):
        """hobd came, went, or was replaced: what was registered with another one is gone."""
        if (owner or None) == self.hobd:
            return
        if self.hobd and not owner:
            self.terminal.log("hobd has left; the home registers when it comes back")
        self.hobd = owner or None
        self.registered.clear()
        self.confirmed.clear()
        if owner:
            self.registering = asyncio.create_task(self.register())

    async def register(self):
        definition = self.home.definition()
        tools = [bus_tool(tool) for tool in definition["tools"]]
        targets = [dictionary(target) for target in definition["targets"]]
        options = {"name": Variant("s", self.arguments.name)}
        try:
            await self.hob("RegisterProvider", "oaa{sv}aa{sv}a{sv}", PATH, tools, targets, options)
        except DBusError as error:
            self.terminal.log(f"hobd did not take the home: {error.text}")
            return
        self.registered.set()
        self.terminal.log(f"registered as {self.arguments.name}: {len(tools)} tools, {len(targets)} targets")

    def released(self):
        self.registered.clear()
        self.terminal.log("hobd has forgotten the home")

    def invoke(self, call_id, tool, arguments, context):
        """Does what a call says, and tells hobd what has changed."""
        targets = context.get("targets", [])
        confirmed = self.confirmed.pop(call_id, None) == (tool, targets)
        if tool in TOOLS and TOOLS[tool].dangerous and not confirmed:
            # A door opens to what was confirmed here, and nobody's word is taken for it.
            raise DBusError(ErrorType.ACCESS_DENIED, "it was not confirmed")
        result = self.home.invoke(tool, arguments, targets, context.get("language", "en"))
        self.changed()
        answer = {"success": result.success, "speech": result.speech, "error": result.error}
        return {key: value for key, value in answer.items() if value != ""}

    async def confirm(self, call_id, tool, context):
        """Asks the person at the terminal, for as long as hobd waits."""
        if tool not in TOOLS:
            return False
        language, targets = context.get("language"), context.get("targets", [])
        known = [self.home.things[id] for id in targets if id in self.home.things]
        whom = ", ".join(thing.called(language) for thing in known)
        self.terminal.log(f"{'Bestätigen' if language == 'de' else 'Please confirm'}: {tool} {whom}")
        prompt = "PIN: " if self.arguments.pin else "(ja/nein) " if language == "de" else "(yes/no) "
        self.confirming[call_id] = answer = asyncio.create_task(self.terminal.line(prompt))
        try:
            said = await asyncio.wait_for(answer, context.get("deadline_ms", ASK_MS) / 1000)
        except (asyncio.CancelledError, TimeoutError):
            self.terminal.log("no longer asked")
            return False
        finally:
            del self.confirming[call_id]
        if not self.is_yes(said or ""):
            return False
        self.confirmed[call_id] = (tool, targets)
        return True

    def is_yes(self, said):
        if self.arguments.pin:
            return hmac.compare_digest(said.encode(), self.arguments.pin.encode())
        return said.lower() in ("yes", "ja")

    def cancel(self, call_id):
        self.confirmed.pop(call_id, None)
        if answer := self.confirming.get(call_id):
            answer.cancel()

    def changed(self):
        """Shows what has changed, and tells hobd, so that questions and "brighter" are right."""
        things = self.home.take_changed()
        for thing in things:
            self.terminal.log(f"* {thing.name}: {view.how(thing)}")
        self.terminal.draw()
        if things and self.registered.is_set():
            self.told = asyncio.create_task(self.tell([dictionary(thing.definition()) for thing in things]))

    async def tell(self, targets):
        # One after another, so that an older state never takes the place of a newer one.
        async with self.telling:
            try:
                await self.hob("UpdateTargets", "oaa{sv}as", PATH, targets, [])
            except DBusError as error:
                self.terminal.log(f"hobd was not told: {error.text}")

    async def say(self, text):
        """Says a sentence to hobd, and returns whether it was done or answered."""
        options = {"provider": Variant("s", self.arguments.name), "timeout_ms": Variant("u", ASK_MS)}
        if self.arguments.area:
            options["area"] = Variant("s", self.arguments.area)
        if self.told:
            # What changed last counts.
            await self.told
        try:
            reply, details = await self.hob("Ask", "sa{sv}", text, options)
        except DBusError as error:
            self.terminal.log(f"hobd: {error.text}")
            return False
        details = unpack_variants(details)
        calls = details.get("calls", [])
        for call in calls:
            arguments = " ".join(f"{name}={value}" for name, value in call["arguments"].items())
            parts = [call["tool"], ",".join(call["targets"]), arguments, f"{call['probability']:.2f}", call["status"]]
            self.terminal.log("  " + " ".join(part for part in parts if part))
        self.terminal.log(reply)
        if details.get("outcome") == "call":
            return all(call["status"] == "done" for call in calls)
        return details.get("outcome") in ("question", "talk")

    async def live(self):
        """Lets the home's time pass."""
        while True:
            await asyncio.sleep(1)
            for told in self.home.tick(1):
                self.terminal.log(told)
            self.changed()

    async def talk(self):
        """Says line after line, until there are no more."""
        if self.registering:
            await self.registering
        while (text := await self.terminal.line()) is not None:
            if text and self.registered.is_set():
                await self.say(text)
            elif text:
                self.terminal.log("the home is not registered with hobd yet")

    async def once(self, text):
        if not self.hobd:
            self.terminal.log(f"{HOBD} is not on the bus. (hint: start `hobd --user`)")
            return NO_HOBD
        await self.registering
        return 0 if self.registered.is_set() and await self.say(text) else NOT_DONE


async def run(arguments):
    home = simulated()
    terminal = Terminal(home, live=not arguments.plain and arguments.say is None)
    hub = Hub(home, terminal, arguments)
    main = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, main.cancel)
    with terminal:
        try:
            await hub.connect()
        except (OSError, DBusError) as error:
            terminal.log(f"no bus: {error}")
            return NO_HOBD
        if not hub.hobd and arguments.say is None:
            terminal.log("waiting for hobd to come")
        terminal.listen()
        talk = asyncio.create_task(hub.talk() if arguments.say is None else hub.once(arguments.say))
        gone = asyncio.create_task(hub.bus.wait_for_disconnect())
        live = asyncio.create_task(hub.live())
        try:
            done, _ = await asyncio.wait((talk, gone, live), return_when=asyncio.FIRST_COMPLETED)
            if gone not in done:
                return done.pop().result()
            terminal.log("the bus is gone")
            return NOT_DONE
        finally:
            # hobd forgets the home, and cancels what was asked, when the hub leaves the bus.
            hub.bus.disconnect()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", action="store_true", help="the system bus in place of the session's")
    parser.add_argument("--name", default="home", help="the provider's name [default: home]")
    parser.add_argument("--area", help="the room in which everything is said, such as Kitchen")
    parser.add_argument("--pin", help="what confirms a dangerous call in place of yes")
    parser.add_argument("--plain", action="store_true", help="a plain log, without the view of the home")
    parser.add_argument("--say", metavar="SENTENCE", help="say one sentence and end")
    parser.add_argument("--print-provider", action="store_true", help="print what is registered and end")
    arguments = parser.parse_args()
    if arguments.print_provider:
        print(json.dumps(simulated().definition(), ensure_ascii=False, indent=2))
        return 0
    try:
        return asyncio.run(run(arguments)) or 0
    except asyncio.CancelledError:
        return 130


if __name__ == "__main__":
    sys.exit(main())
