"""Calls hobd through dbus-fast, as a hub in Python would, and prints what it got as JSON."""

import asyncio
import json
import socket

from dbus_fast import BusType, DBusError, Variant
from dbus_fast.aio import MessageBus

NAME, PATH = "org.hobd.Hob1", "/org/hobd/Hob1"


async def read_all(fd):
    """The rest of the stream, without blocking the loop."""
    end = socket.socket(fileno=fd)
    end.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=end)
    data = await reader.read()
    writer.close()
    return data.decode()


async def main():
    bus = await MessageBus(bus_type=BusType.SESSION, negotiate_unix_fd=True).connect()
    tree = await bus.introspect(NAME, PATH)
    hob = bus.get_proxy_object(NAME, PATH, tree).get_interface("org.hobd.Hob1.Assistant")
    reply, details = await hob.call_ask("one two three", {"max_tokens": Variant("u", 9)})
    path, fd = await hob.call_stream("four five", {"format": Variant("s", "text")})
    messages = [["system", {"content": Variant("s", "be brief")}],
                ["user", {"content": Variant("s", "six seven")}]]
    _, events = await hob.call_complete(messages, {"format": Variant("s", "events")})
    try:
        await hob.call_ask("no", {"colour": Variant("s", "red")})
        error = None
    except DBusError as refused:
        error = [refused.type, refused.text]
    print(json.dumps({
        "reply": reply,
        "finish_reason": details["finish_reason"].value,
        "path": path,
        "streamed": await read_all(fd),
        "events": [json.loads(line) for line in (await read_all(events)).splitlines()],
        "error": error,
        "state": await hob.get_state(),
    }))


asyncio.run(main())
