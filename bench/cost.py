"""What hob costs when it starts, runs, idles and sleeps."""

import os
import time

from servers import Hob, Peer, busy_percent, call, complete, memory, processor_ticks, prompt_of
from speed import alternating

IDLE_SECONDS = 60


def mebibytes(count):
    return f"{count / 2**20:.1f}"


def starts(arguments, folder, table):
    """From the start of the process to the first 200 of /health, with the file in the cache."""
    loads = []
    servers = (
        Hob(folder / "hob", arguments.model, arguments.threads),
        Peer(folder / "peer", arguments.model, arguments.threads, arguments.llama_server),
    )

    def measure(server, _):
        with server:
            if server.name == "hob":
                loads.append(server.status()["engine"]["load_ms"] / 1000)
            return server.seconds_to_ready

    for server in servers:
        measure(server, 0)
    own, other = alternating(servers, arguments.rounds, measure)
    table.compared("process start to ready, s (hob: sha256 of the model included)", own, other)
    table.own("engine start to ready, s", loads)


def running(arguments, folder, table):
    """hobd's own processor time while it hands on 1,024 tokens, and what all take when idle."""
    with Hob(folder / "hob", arguments.model, arguments.threads) as hob:
        tokens, before = 0, processor_ticks(hob.process.pid)
        for number in range(8):
            tokens += complete(hob.socket, prompt_of(20, 1000 + number), 128).tokens
        ticks = processor_ticks(hob.process.pid) - before
        micros = ticks * 1e6 / os.sysconf("SC_CLK_TCK") / tokens
        table.own("hobd's processor time for a token, µs", f"{micros:.0f}")
        pids = hob.process.pid, hob.engine_pid()
        for who, percent in zip(("hobd", "engine"), busy_percent(pids, IDLE_SECONDS)):
            table.own(f"idle for {IDLE_SECONDS} s, % of one core: {who}", f"{percent:.2f}")


def asleep(arguments, folder, table):
    """What is left when the engine has gone for want of work."""
    with Hob(folder / "hob", arguments.model, arguments.threads, keep_alive="1s") as hob:
        complete(hob.socket, prompt_of(30, 1), 16)
        while hob.status()["state"] != "sleeping":
            time.sleep(0.1)
        time.sleep(1)
        [percent] = busy_percent([hob.process.pid], IDLE_SECONDS)
        table.own("asleep: all processes, MiB resident", mebibytes(memory(hob.process.pid)[0]))
        table.own(f"asleep for {IDLE_SECONDS} s, % of one core", f"{percent:.2f}")
        first = complete(hob.socket, prompt_of(30, 2), 4).first
        table.own("asleep: a short question to its first token, s", f"{first:.2f}")


def without_model(_, folder, table):
    hob = Hob(folder / "hob", None, None)
    hob.start()
    while call(hob.socket, "GET", "/hob/v1/status")[0] != 200:
        time.sleep(0.01)
    time.sleep(1)
    resident, proportional, private = map(mebibytes, memory(hob.process.pid))
    table.own("hobd with no model, MiB resident", resident)
    table.own("hobd with no model, MiB proportional / private", f"{proportional} / {private}")
    hob.stop()
