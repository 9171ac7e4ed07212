"""The two servers that are compared, and how a client of theirs asks and takes the time."""

import concurrent.futures
import dataclasses
import http.client
import json
import os
import pathlib
import socket
import subprocess
import time

TREE = pathlib.Path(__file__).resolve().parent.parent
BIN = TREE / "target" / "release"
N_CTX = 4096
START_SECONDS_MAX = 120

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


def prompt_of(words, salt):
    sentences = []
    at = salt
    while sum(len(s.split()) for s in sentences) < words:
        sentences.append(SENTENCES[at % len(SENTENCES)])
        at += 1
    return f"Chapter {salt}. " + " ".join(sentences)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=600)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(600)
        self.sock.connect(self.path)


def call(path, method, url, body=None):
    """(status, the answer's JSON), or (0, None) if nobody answers."""
    connection = UnixConnection(path)
    headers = {"Content-Type": "application/json"}
    try:
        connection.request(method, url, body and json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    except (OSError, http.client.HTTPException, ValueError):
        return 0, None
    finally:
        connection.close()


@dataclasses.dataclass
class Answer:
    """One answer, and when it came: times are seconds since it was asked for."""

    text: str
    prompt_tokens: int
    cached_tokens: int
    tokens: int
    first: float
    last: float

    def prefill(self):
        return self.prompt_tokens / self.first

    def decode(self):
        return (self.tokens - 1) / (self.last - self.first)


def ask(path, url, body):
    """Times one streamed request."""
    # The two have other defaults, and a penalty costs time.
    greedy = {"temperature": 0, "repeat_penalty": 1.0}
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    connection = UnixConnection(path)
    begin = time.perf_counter()
    connection.request(
        "POST", url, json.dumps(greedy | stream | body), {"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {answer.read()[:500]!r}")
    first = last = usage = None
    text = []
    for line in answer:
        if not line.startswith(b"data: ") or line.strip() == b"data: [DONE]":
            continue
        now = time.perf_counter()
        chunk = json.loads(line[6:])
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices", ()):
            piece = choice.get("text") or choice.get("delta", {}).get("content")
            if piece:
                text.append(piece)
                first = first or now
                last = now
    connection.close()
    details = usage.get("prompt_tokens_details") or {}
    return Answer(
        text="".join(text),
        prompt_tokens=usage["prompt_tokens"],
        cached_tokens=details.get("cached_tokens", 0),
        tokens=usage["completion_tokens"],
        first=first - begin,
        last=last - begin,
    )


def complete(path, prompt, tokens, **more):
    return ask(path, "/v1/completions", {"prompt": prompt, "max_tokens": tokens} | more)


def chat(path, messages, tokens, **more):
    return ask(path, "/v1/chat/completions", {"messages": messages, "max_tokens": tokens} | more)


def all_at_once(requests):
    """What each of the functions returns, called at the same time."""
    with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda request: request(), requests))


def processor_ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def busy_percent(pids, seconds):
    """What each process takes of one core while nothing is asked of it."""
    before = [processor_ticks(pid) for pid in pids]
    time.sleep(seconds)
    ticks = [processor_ticks(pid) - then for pid, then in zip(pids, before)]
    return [count * 100 / os.sysconf("SC_CLK_TCK") / seconds for count in ticks]


def memory(pid):
    """(resident, proportional, private) bytes."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    figures = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    private = figures["Private_Clean"] + figures["Private_Dirty"]
    return figures["Rss"], figures["Pss"], private


class Server:
    """A process that serves the model on a socket. `with` waits until it is ready, and ends it."""

    def __enter__(self):
        self.start()
        self.seconds_to_ready = self.wait_until_ready()
        return self

    def __exit__(self, *_):
        self.stop()

    def launch(self, command, log, **more):
        self.begin = time.perf_counter()
        with open(self.folder / log, "a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, **more)

    def wait_until_ready(self):
        end = time.perf_counter() + START_SECONDS_MAX
        while time.perf_counter() < end:
            if call(self.socket, "GET", "/health")[0] == 200:
                return time.perf_counter() - self.begin
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended; see {self.folder}")
            time.sleep(0.005)
        raise RuntimeError(f"{self.name} is not ready after {START_SECONDS_MAX} s")

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)


class Hob(Server):
    name = "hob"

    def __init__(self, folder, model, threads, **settings):
        """Settings are those of the table [engine], but for those that name another one with
        two underscores: limits__queue."""
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.socket = folder / "hob.sock"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "HOB_SOCKET": str(self.socket),
            "HOB_MODELS_DIR": str(folder / "models"),
        }
        self.settings = {"n_ctx": N_CTX, "keep_alive": "0s", "parallel": 1} | settings
        if threads:
            self.settings["threads"] = threads
        if model:
            self.hob("models", "import", model, "--name", "bench")

    def hob(self, *arguments):
        subprocess.run(
            [BIN / "hob", *arguments], env=self.environment, check=True, stdout=subprocess.DEVNULL
        )

    def start(self):
        flags = []
        for name, value in self.settings.items():
            name = name.replace("__", ".") if "__" in name else f"engine.{name}"
            flags += ["--set", f"{name}={value}"]
        command = [BIN / "hobd", "--user", "--no-dbus", *flags]
        self.launch(command, "hobd.log", env=self.environment)

    def status(self):
        return call(self.socket, "GET", "/hob/v1/status")[1]

    def engine_pid(self):
        return self.status()["engine"]["pid"]


class Peer(Server):
    name = "llama-server"

    def __init__(self, folder, model, threads, binary, parallel=1, flags=()):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.socket = folder / "peer.sock"
        self.command = [
            binary, "--host", self.socket, "--model", model,
            "--threads", str(threads), "--threads-batch", str(threads),
            "--ctx-size", str(N_CTX * parallel), "--parallel", str(parallel),
            "--cache-ram", "0", "--no-warmup", *flags,
        ]

    def start(self):
        # It does not take over a socket that it left behind.
        self.socket.unlink(missing_ok=True)
        self.launch(self.command, "peer.log")
