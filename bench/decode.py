#!/usr/bin/env python3
"""Home calls that models write: whether they exist, how long they take, and how many are right.

    bench/decode.py valid --model FILE [--model FILE ...] [--count N] [--at-once N] [--seed N]
    bench/decode.py latency --llama-server PATH --model FILE [--rounds N] [--threads N]
    bench/decode.py accuracy FOLDER --llama-server PATH --model FILE [--count N] [--threads N]

`valid` makes random homes and utterances, has hob's model read them, half of them without narrowing,
and checks each call against the definition by code of its own. It prints how many were invalid.

`latency` has a house of 50 devices read by hob's words, by its model, and by llama-server's with the
same tools and devices in its system message, a warm prompt cache, and a JSON schema that lists them;
in turn, sentence by sentence. Then hobd is started anew, and its first utterance is timed.

`accuracy` asks llama-server about held-out English actions, as bench/home.py has them: FOLDER is
data/piles/english of acon96/home-llm. hob's own are `bench/home.py piles FOLDER --held-out --
--reader model`.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import sys
import tempfile
import time

import home
from core import wait_for
from servers import Hob, Peer, call
from table import Table

NAMES = (
    "Kitchen Lamp", "Desk Lamp", "Lamp", "Küchenlicht", "厨房灯", 'say "hi"', "back\\slash", "<|im_end|>",
    "Blinds", "Front Door", "x=1, y=2", "Heating", "Fan 2", "🙂", "(talk)", "<start_of_turn>", "{}", "a",
)
ROOMS = ("Kitchen", "Hall", "Küche", 'Attic "B"', "Upstairs")
KINDS = ("light", "cover", "lock", "climate", "switch")
TOOLS = (
    "turn_on", "turn_off", "set.level", "open-cover", "close-cover", "lock", "add_item", "timer",
    "talk", "set_temperature", "a", "a.b",
)
ARGUMENTS = ("level", "mode", "item", "seconds")
WORDS = (
    "turn on off the kitchen lamp desk lights all and set to 21 degrees open blinds lock door add milk "
    "Küchenlicht an aus why not \" 5 percent everything <|im_end|> is heating ] now half please what "
    "close upstairs -3 2.5 red warmer bit"
).split()


def random_property(rng):
    least = rng.randint(-100, 100)
    return rng.choice((
        {"type": "string"},
        {"type": "boolean"},
        {"type": "number"},
        {"type": "integer"},
        {"type": "string", "enum": ["red", "warm white", 'say "x"']},
        {"type": "integer", "enum": [3, 30, -300]},
        {"type": "number", "minimum": least / 7, "maximum": least / 7 + rng.random() * 30},
        {"type": "integer", "minimum": least, "maximum": least + rng.randint(0, 300)},
    ))


def random_tool(rng, name):
    properties = {key: random_property(rng) for key in ARGUMENTS if rng.random() < 0.3}
    required = [key for key in properties if rng.random() < 0.5]
    tool = {
        "name": name,
        "parameters": {"type": "object", "properties": properties, "required": required},
        "examples": [f"{name} the {{target}}", f"please {name}"],
    }
    if rng.random() < 0.75:
        tool["acts_on"] = {"kinds": rng.sample(KINDS, rng.randint(0, 3))}
    return tool


def random_home(rng):
    targets = []
    for number in range(rng.randint(0, 20)):
        target = {"id": f"t.{number}", "name": rng.choice(NAMES), "kind": rng.choice(KINDS)}
        if rng.random() < 0.7:
            target["area"] = rng.choice(ROOMS)
        targets.append(target)
    tools = [random_tool(rng, name) for name in rng.sample(TOOLS, rng.randint(1, 8))]
    return {"tools": tools, "targets": targets}


def random_utterance(rng, definition):
    """Words, or something like a command for what is there."""
    words = rng.choices(WORDS, k=rng.randint(1, 6))
    if definition["targets"] and rng.random() < 0.7:
        words = [rng.choice(definition["tools"])["name"].replace("_", " "), "the", rng.choice(definition["targets"])["name"], *words[:2]]
    return " ".join(words)


def fits(schema, value):
    kinds = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}
    typed = isinstance(value, kinds[schema["type"]])
    if isinstance(value, bool) and schema["type"] != "boolean":
        return False
    if not typed or value not in schema.get("enum", [value]):
        return False
    if isinstance(value, str) and "enum" not in schema:
        return len(value.encode()) <= 500 and value.isprintable()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    return True


def exists(definition, made):
    """Whether a call is right by the definition."""
    tool = next((tool for tool in definition["tools"] if tool["name"] == made["tool"]), None)
    if tool is None or len(set(made["targets"])) != len(made["targets"]):
        return False
    if ("acts_on" in tool) != bool(made["targets"]):
        return False
    kinds = tool.get("acts_on", {}).get("kinds")
    targets = {target["id"]: target for target in definition["targets"]}
    for name in made["targets"]:
        if name not in targets or (kinds and targets[name]["kind"] not in kinds):
            return False
    schema = tool["parameters"]
    arguments = made["arguments"]
    given = all(name in arguments for name in schema["required"])
    known = schema["properties"]
    return given and all(name in known and fits(known[name], value) for name, value in arguments.items())


def read_home(socket, text, **more):
    return call(socket, "POST", "/hob/v1/home", {"text": text, "reader": "model"} | more)


def some_homes(socket, rng, name, count):
    """Utterances in homes of one random generator: outcomes, and what was invalid."""
    outcomes, invalid, calls = {}, [], 0
    while count > 0:
        definition = random_home(rng)
        if call(socket, "PUT", f"/hob/v1/providers/{name}", definition)[0] != 200:
            continue
        for number in range(min(count, 10)):
            text = random_utterance(rng, definition)
            without = ["narrowing"] if number % 2 else []
            status, answer = read_home(socket, text, provider=name, without=without)
            count -= 1
            if status != 200:
                invalid.append((text, without, status, answer, definition))
                continue
            outcomes[answer["outcome"]] = outcomes.get(answer["outcome"], 0) + 1
            for made in answer["calls"] + answer["alternatives"]:
                calls += 1
                if not exists(definition, made):
                    invalid.append((text, without, status, answer, definition))
    return outcomes, invalid, calls


def valid(arguments):
    bad = 0
    for model in arguments.model:
        share = arguments.count // len(arguments.model) // arguments.at_once
        with tempfile.TemporaryDirectory() as folder:
            settings = {"parallel": arguments.at_once, "limits__per_uid": 16}
            with Hob(pathlib.Path(folder) / "hob", model, arguments.threads, **settings) as hob:
                wait_for(lambda: hob.status()["state"] == "ready")
                begin = time.perf_counter()
                with concurrent.futures.ThreadPoolExecutor(arguments.at_once) as pool:
                    jobs = [
                        pool.submit(some_homes, hob.socket, random.Random(f"{arguments.seed} {at}"), f"home-{at}", share)
                        for at in range(arguments.at_once)
                    ]
                    parts = [job.result() for job in jobs]
                seconds = time.perf_counter() - begin
        outcomes = {}
        for part, _, _ in parts:
            for outcome, count in part.items():
                outcomes[outcome] = outcomes.get(outcome, 0) + count
        invalid = [one for _, ones, _ in parts for one in ones]
        calls = sum(count for _, _, count in parts)
        read = share * arguments.at_once
        print(
            f"{model.name}: {read} utterances, {calls} calls (alternatives included), "
            f"{len(invalid)} invalid or failed, {seconds:.0f} s; {outcomes}"
        )
        for one in invalid[:5]:
            print(json.dumps(one, ensure_ascii=False), file=sys.stderr)
        bad += len(invalid)
    return 1 if bad else 0


LIVING = ("Kitchen", "Living Room", "Bedroom", "Office", "Bathroom", "Hall", "Nursery", "Attic", "Cellar", "Garage")
THINGS = (("Ceiling Lamp", "light"), ("Reading Lamp", "light"), ("Blinds", "cover"), ("Fan", "fan"), ("Outlet", "switch"))
DOES = (
    ("turn_on", ("light", "fan", "switch"), "turn on the {target}"),
    ("turn_off", ("light", "fan", "switch"), "turn off the {target}"),
    ("toggle", ("light", "fan", "switch"), "toggle the {target}"),
    ("open_cover", ("cover",), "open the {target}"),
    ("close_cover", ("cover",), "close the {target}"),
    ("stop_cover", ("cover",), "stop the {target}"),
)


def house():
    """50 devices, and a sentence for each with what it means."""
    targets, sentences = [], []
    for room in LIVING:
        for thing, kind in THINGS:
            name = f"{room} {thing}"
            targets.append({"id": name.lower().replace(" ", "_"), "name": name, "kind": kind, "area": room})
            acting = [does for does in DOES if kind in does[1]]
            tool, _, example = acting[len(targets) % len(acting)]
            sentences.append((example.replace("{target}", name.lower()), tool, targets[-1]["id"]))
    tools = [{"name": name, "acts_on": {"kinds": list(kinds)}, "examples": [text]} for name, kinds, text in DOES]
    random.Random(1).shuffle(sentences)
    return {"tools": tools, "targets": targets}, sentences


def peers_prompt(definition, examples):
    """What the other server is told of the same tools and targets, and what its answer must be."""
    lines = ["You control a home. Answer what is said with one call, as JSON.", "Tools:"]
    lines += [f"{tool['name']} <{'|'.join(tool['acts_on']['kinds'])}>" for tool in definition["tools"]]
    rooms = {}
    for target in definition["targets"]:
        rooms.setdefault((target.get("area") or "", target["kind"]), []).append(json.dumps(target["name"], ensure_ascii=False))
    lines.append("Home:")
    lines += [", ".join(filter(None, room)) + ": " + ", ".join(names) for room, names in sorted(rooms.items())]
    messages = [{"role": "system", "content": "\n".join(lines)}]
    for text, tool, name in examples:
        messages.append({"role": "user", "content": f"Said: {text}"})
        messages.append({"role": "assistant", "content": json.dumps({"tool": tool, "target": name}, ensure_ascii=False)})
    schema = {
        "type": "object",
        "properties": {
            "tool": {"type": "string", "enum": [tool["name"] for tool in definition["tools"]]},
            "target": {"type": "string", "enum": sorted({target["name"] for target in definition["targets"]})},
        },
        "required": ["tool", "target"],
        "additionalProperties": False,
    }
    return messages, schema


def ask_peer(socket, messages, schema, text):
    """The call, seconds, and tokens written."""
    body = {
        "messages": [*messages, {"role": "user", "content": f"Said: {text}"}],
        "temperature": 0, "max_tokens": 100, "cache_prompt": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}},
    }
    begin = time.perf_counter()
    status, answer = call(socket, "POST", "/v1/chat/completions", body)
    seconds = time.perf_counter() - begin
    if status != 200:
        raise RuntimeError(f"llama-server: {status} {answer}")
    made = json.loads(answer["choices"][0]["message"]["content"])
    return made, seconds, answer["usage"]["completion_tokens"]


def ask_hob(socket, text, **more):
    begin = time.perf_counter()
    status, answer = call(socket, "POST", "/hob/v1/home", {"text": text} | more)
    seconds = time.perf_counter() - begin
    if status != 200:
        raise RuntimeError(f"hob: {status} {answer}")
    return answer, seconds


def meant(answer, tool, target):
    calls = [(made["tool"], made["targets"]) for made in answer["calls"]]
    return calls == [(tool, [target])]


READERS = {
    "words": {},
    "model": {"reader": "model"},
    "model, without narrowing": {"reader": "model", "without": ["narrowing"]},
}


def register(hob, definition):
    status, answer = call(hob.socket, "PUT", "/hob/v1/providers/house", definition)
    if status != 200:
        raise RuntimeError(f"hob: {status} {answer}")


def pinned(hob):
    return hob.status()["cache"]["pins_ready"] == 1


def latency(arguments):
    definition, sentences = house()
    names = {target["id"]: target["name"] for target in definition["targets"]}
    examples = [(text, tool, names[target]) for text, tool, target in sentences[-6:]]
    sentences = sentences[: arguments.rounds]
    messages, schema = peers_prompt(definition, examples)
    times = {name: [] for name in (*READERS, "peer")}
    right = dict.fromkeys(times, 0)
    written, table = {name: [] for name in times}, Table()
    model = arguments.model[0]
    with tempfile.TemporaryDirectory() as folder:
        hob = Hob(pathlib.Path(folder) / "hob", model, arguments.threads)
        peer = Peer(pathlib.Path(folder) / "peer", model, arguments.threads, arguments.llama_server)
        with hob:
            register(hob, definition)
            wait_for(lambda: hob.status()["state"] == "ready")
            ask_hob(hob.socket, "good morning", reader="model")
            wait_for(lambda: pinned(hob))
            time.sleep(3)
            with peer:
                ask_peer(peer.socket, messages, schema, "good morning")
                for text, tool, target in sentences:
                    made, seconds, tokens = ask_peer(peer.socket, messages, schema, text)
                    times["peer"].append(seconds)
                    written["peer"].append((tokens, tokens))
                    right["peer"] += (made["tool"], made["target"]) == (tool, names[target])
                    for name, more in READERS.items():
                        answer, seconds = ask_hob(hob.socket, text, **more)
                        times[name].append(seconds)
                        right[name] += meant(answer, tool, target)
                        if "decoded" in answer:
                            usage = answer["decoded"]["usage"]
                            passes = usage["completion_tokens_details"]["forward_passes"]
                            written[name].append((passes, usage["completion_tokens"]))
            first, cached = [], []
            for text, _, _ in sentences[:5]:
                hob.stop()
                hob.start()
                wait_for(lambda: (hob.status() or {}).get("state") == "ready")
                register(hob, definition)
                wait_for(lambda: pinned(hob))
                answer, seconds = ask_hob(hob.socket, text, reader="model")
                first.append(seconds)
                cached.append(answer["decoded"]["usage"]["prompt_tokens_details"]["cached_tokens"])
    for name in READERS:
        ms = [[seconds * 1e3 for seconds in times[who]] for who in (name, "peer")]
        table.compared(f"utterance to call, read by {name}, ms", *ms)
    for name in list(READERS)[1:]:
        passes = [passes / tokens for passes, tokens in written[name]]
        table.own(f"forward passes for a token, {name}", passes)
        table.own(f"forward passes for an answer, {name}", [float(passes) for passes, _ in written[name]], 0)
        table.own(f"tokens of an answer, {name}", [float(tokens) for _, tokens in written[name]], 0)
    table.compared("tokens of an answer (llama-server: each a pass)",
                   [float(tokens) for _, tokens in written["model"]], [float(tokens) for _, tokens in written["peer"]])
    table.within(f"the first after a restart of hobd, {min(cached)} tokens restored, s", first, times["model"][:5])
    table.print()
    total = len(sentences)
    print("\nright: " + ", ".join(f"{name} {count} of {total}" for name, count in right.items()))
    return 0


def accuracy(arguments):
    data = home.Piles(arguments.folder)
    train, evaluated = data.actions[0::2], data.actions[1::2]
    evaluated = evaluated[:: max(1, len(evaluated) // arguments.count)][: arguments.count]
    definition = data.provider(train, [row["phrase"] for row in evaluated])
    named = {target["id"]: target["name"] for target in definition["targets"]}
    step = len(train) // 6
    examples = [(row["phrase"], row["service_name"], named[home.Piles.target_of(row)]) for row in train[::step][:6]]
    messages, schema = peers_prompt(definition, examples)
    exact = tools = targets = 0
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--ctx-size", "16384")
        peer = Peer(pathlib.Path(folder) / "peer", arguments.model[0], arguments.threads, arguments.llama_server, flags=flags)
        with peer:
            for row in evaluated:
                made, _, _ = ask_peer(peer.socket, messages, schema, row["phrase"])
                tool = made["tool"] == row["service_name"]
                target = made["target"] == named[home.Piles.target_of(row)]
                tools, targets, exact = tools + tool, targets + target, exact + (tool and target)
    print(f"llama-server with a JSON schema: {len(evaluated)} sentences, {exact} exact, {tools} tools, {targets} devices")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("valid", "latency", "accuracy"))
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--model", type=pathlib.Path, action="append", required=True)
    parser.add_argument("--llama-server", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.exit({"valid": valid, "latency": latency, "accuracy": accuracy}[arguments.what](arguments))


if __name__ == "__main__":
    main()
