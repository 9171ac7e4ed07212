"""What the serving core promises: cancels, restored prefixes, fair turns."""

import json
import os
import signal
import sys
import time

from servers import Hob, UnixConnection, call, chat, complete, prompt_of

# Waiting for something that hob does in the background, in seconds.
PATIENCE = 300
LIGHT_UID = 65534


def wait_for(what):
    end = time.perf_counter() + PATIENCE
    while not what():
        if time.perf_counter() > end:
            raise RuntimeError("hob did not get there")
        time.sleep(0.001)


def cancels(arguments, folder, table):
    """From a client's leaving in the middle of a prompt to an idle daemon."""
    with Hob(folder / "hob", arguments.model, arguments.threads) as hob:
        for words in (300, 1000, 2500):
            times = []
            for number in range(12):
                connection = UnixConnection(hob.socket)
                body = {"prompt": prompt_of(words, 7000 + number), "max_tokens": 500, "stream": True}
                headers = {"Content-Type": "application/json"}
                connection.request("POST", "/v1/completions", json.dumps(body), headers)
                time.sleep(0.3 + number * 0.13)
                begin = time.perf_counter()
                connection.close()
                wait_for(lambda: not hob.status()["active"])
                times.append((time.perf_counter() - begin) * 1e3)
            table.own(f"cancel in a prompt of {words * 6 // 5} tokens or its answer, to idle, ms", times)


def restored_prefix(arguments, folder, table):
    """Time to the first token behind 2,000 pinned tokens: read, after the engine was killed, and
    after hobd was started again; a request that wakes the engine waits for its start, too."""
    persona = prompt_of(1840, 3)
    system = [{"role": "system", "content": persona}]

    def first(hob, text, **more):
        return chat(hob.socket, [*system, {"role": "user", "content": text}], 4, **more)

    def restored(hob):
        pins = call(hob.socket, "GET", "/hob/v1/pins")[1]
        return all(pin["state"] == "ready" for pin in pins["data"])

    hob = Hob(folder / "hob", arguments.model, arguments.threads, cache=512 << 20)
    with hob:
        cold = [first(hob, f"Cold {n}?", cache_prompt=False).first for n in range(3)]
        call(hob.socket, "PUT", "/hob/v1/pins/persona", {"messages": system})
        wait_for(lambda: restored(hob))
        time.sleep(2)
        warm, killed, restarted = [], [], []
        for number in range(arguments.rounds):
            warm.append(first(hob, f"Warm {number}?"))
            pid = hob.engine_pid()
            os.kill(pid, signal.SIGKILL)
            # What reaches the engine before hobd knows is lost with it, and says so.
            wait_for(lambda: (hob.status()["engine"] or {}).get("pid") != pid)
            killed.append(first(hob, f"Killed {number}?"))
            hob.stop()
            hob.start()
            wait_for(lambda: call(hob.socket, "GET", "/hob/v1/status")[0] == 200)
            restarted.append(first(hob, f"Restarted {number}?"))
    tokens = warm[0].cached_tokens
    table.own(f"{tokens} pinned tokens and a question, read whole: time to first token, s", cold)
    base = [sorted(cold)[1]] * arguments.rounds
    for what, answers in (
        ("from memory", warm),
        ("right after kill -9 of the engine, its start included", killed),
        ("right after a restart of hobd, the model's hash included", restarted),
    ):
        reused = min(answer.cached_tokens for answer in answers)
        print(f"{what}: at least {reused} tokens reused", file=sys.stderr)
        table.within(f"the same {what}", [answer.first for answer in answers], base)


def ask_as(uid, path):
    """Asks for one token as another user, and returns when it has come."""
    child = os.fork()
    if child == 0:
        try:
            os.setuid(uid)
            complete(path, "Say yes.", 1)
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError(f"user {uid} got no answer")


def behind_a_hog(arguments, folder, table):
    """A light user's wait while another one has 20 requests queued, in requests of the other's."""
    if os.geteuid() != 0:
        table.own("a light user behind a hog", "needs root, for a second user")
        return
    waits = []
    with Hob(folder / "hob", arguments.model, arguments.threads, limits__per_uid=32) as hob:
        # The run's own folders, of which the second is the temporary one.
        for path in (hob.folder, folder, folder.parent):
            os.chmod(path, 0o755)
        os.chmod(hob.socket, 0o666)
        for number in range(min(arguments.rounds, 5)):
            hog = [UnixConnection(hob.socket) for _ in range(21)]
            for at, connection in enumerate(hog):
                body = {"prompt": prompt_of(60, 100 * number + at), "max_tokens": 100}
                headers = {"Content-Type": "application/json"}
                connection.request("POST", "/v1/completions", json.dumps(body), headers)
            wait_for(lambda: hob.status()["queued"] == 20)
            ask_as(LIGHT_UID, hob.socket)
            left = 21 - hob.status()["queued"] - hob.status()["active"]
            waits.append(left)
            for connection in hog:
                connection.close()
            wait_for(lambda: not hob.status()["active"])
    table.own("a light user behind 20 queued requests: requests served before it", waits, 0)
