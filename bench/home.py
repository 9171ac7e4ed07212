#!/usr/bin/env python3
"""Makes sets for `hob evaluate home` from phrases of people for imaginary homes, and runs them.

    bench/home.py piles FOLDER [--held-out] [--out FOLDER] ...
    bench/home.py refusals FOLDER [--held-out] ...
    bench/home.py status FOLDER [--held-out] ...
    bench/home.py nlu FILE [--held-out] ...
    bench/home.py general FOLDER|FILE [--held-out] ...

FOLDER is data/piles/english or data/piles/german of acon96/home-llm (MIT); FILE is a CSV of intent
and utterance, the iot_* intents of xliuhw/NLU-Evaluation-Data (CC BY 4.0). Neither is shipped.

Even rows (0, 2, ...) train, odd rows are held out. Without --held-out, every other even row is
the development split: it is left out of the examples, and is what is evaluated; --swapped exchanges
the two; --fold K/N evaluates the K-th (from 0) of N parts of the even rows, with the others as examples.
All weights of hob's reading were fitted on the even rows. With --held-out, the examples are all even rows, and the odd rows
are evaluated. No example equals an evaluated phrase, whatever its row.

What follows `--` goes to `hob evaluate home`; without it, two files are written and nothing runs.
"""

import argparse
import csv
import json
import pathlib
import re
import subprocess
import sys
import tempfile

KINDS = ["blinds", "fan", "garage_door", "light", "lock", "media_player", "switch", "vacuum", "climate", "timer", "todo"]


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def split(items, arguments):
    """Training rows and evaluated rows."""
    even, odd = items[0::2], items[1::2]
    if arguments.held_out:
        return even, odd
    if arguments.fold:
        at, folds = arguments.fold
        numbered = list(enumerate(even))
        return [row for n, row in numbered if n % folds != at], [row for n, row in numbered if n % folds == at]
    quarters = even[0::2], even[1::2]
    return quarters[::-1] if arguments.swapped else quarters


def fold(text):
    """K/N as two numbers."""
    at, folds = (int(part) for part in text.split("/"))
    if not 0 <= at < folds:
        raise ValueError(text)
    return at, folds


def key(text):
    return re.sub(r"\W+", " ", text.lower()).strip()


def humanised(device):
    """A name for a device of the phrases that the list of names lacks."""
    return device.replace("_", " ")


class Piles:
    """The devices, services and phrases of one language."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        # Some devices are listed with several names.
        self.names = {}
        for row in rows(folder / "pile_of_device_names.csv"):
            names = self.names.setdefault(row["device_name"], [])
            if row["description"] not in names:
                names.append(row["description"])
        self.actions = rows(folder / "pile_of_specific_actions.csv")
        self.templates = rows(folder / "pile_of_templated_actions.csv")
        self.refusals = rows(folder / "pile_of_refusals.csv")
        self.status = rows(folder / "pile_of_status_requests.csv")

    @staticmethod
    def target_of(row):
        return row["service_name"].split(".")[0] + "." + row["device_name"]

    def devices(self):
        """The names of every device of the actions, by id."""
        ids = sorted({self.target_of(row) for row in self.actions})
        return {id: self.names.get(id) or [humanised(id.split(".")[1])] for id in ids}

    def tools(self, train, evaluated):
        """Every service of the actions, with what is said for it in the templates and in `train`."""
        forbidden = {key(text) for text in evaluated}
        services = sorted({row["service_name"] for row in self.actions})
        examples = {service: [] for service in services}
        for row in self.templates:
            service = row["device_type"] + "." + row["service"]
            # Templates with values are those of services that the actions do not have.
            if service in examples and "<" not in row["phrase"].replace("<device_name>", ""):
                examples[service].append({"text": row["phrase"].replace("<device_name>", "{target}")})
        for row in train:
            if key(row["phrase"]) not in forbidden:
                examples[row["service_name"]].append({"text": row["phrase"], "target": self.target_of(row)})
        return [
            {
                "name": service,
                "acts_on": {"kinds": [service.split(".")[0]]},
                "dangerous": service.split(".")[0] in ("lock", "garage_door"),
                "examples": examples[service],
            }
            for service in services
        ]

    def provider(self, train, evaluated, without=()):
        """All devices registered together, but for those that `without` forbids."""
        devices = {id: names for id, names in self.devices().items() if not any(bad(id, names) for bad in without)}
        targets = [
            {"id": id, "name": names[0], "aliases": names[1:], "kind": id.split(".")[0]}
            for id, names in devices.items()
        ]
        return {"tools": self.tools(train, evaluated), "targets": targets}


def piles(arguments):
    data = Piles(arguments.source)
    train, evaluated = split(data.actions, arguments)
    sentences = [
        {"text": row["phrase"], "tool": row["service_name"], "targets": [Piles.target_of(row)]}
        for row in evaluated
    ]
    return data.provider(train, [s["text"] for s in sentences]), sentences


def refusals(arguments):
    """Devices that the home does not have: whatever is asked of them must not become a call."""
    data = Piles(arguments.source)
    missing = [row for row in data.refusals if row["reason_type"] == "not_available"]
    _, evaluated = split(missing, arguments)
    train, _ = split(data.actions, arguments)
    names = {key(row["friendly_name"]) for row in evaluated}
    ids = {row["service_name"].split(".")[0] + "." + row["device_name"] for row in evaluated}
    sentences = []
    for row in evaluated:
        text = row["phrase"].replace("<device_name>", row["friendly_name"].lower())
        sentences.append({"text": text, "outcome": "cannot"})
    provider = data.provider(
        train,
        [s["text"] for s in sentences],
        [lambda id, own: any(key(name) in names for name in own) or id in ids],
    )
    return provider, sentences


def status(arguments):
    """Questions about devices that the home has."""
    data = Piles(arguments.source)
    train, _ = split(data.actions, arguments)
    devices = data.devices()
    by_kind = {}
    for id, own in devices.items():
        by_kind.setdefault(id.split(".")[0], []).append(own[0])
    _, evaluated = split(data.status, arguments)
    sentences = []
    for place, row in enumerate(evaluated):
        names = by_kind.get(row["device_type"])
        if names and "<" not in row["phrase"].replace("<device_name>", ""):
            name = names[place * 7 % len(names)]
            sentences.append({"text": row["phrase"].replace("<device_name>", name.lower()), "outcome": "question"})
    return data.provider(train, [s["text"] for s in sentences]), sentences


def nlu(arguments):
    """Nine intents as tools without targets."""
    data = rows(arguments.source)
    train, evaluated = split(data, arguments)
    forbidden = {key(row["utterance"]) for row in evaluated}
    intents = sorted({row["intent"] for row in data})
    tools = [
        {
            "name": intent,
            "examples": [
                row["utterance"]
                for row in train
                if row["intent"] == intent and key(row["utterance"]) not in forbidden
            ],
        }
        for intent in intents
    ]
    sentences = [{"text": row["utterance"], "tool": row["intent"]} for row in evaluated]
    return {"tools": tools, "targets": []}, sentences


def general(arguments):
    """What no home does: to be answered by talk, and by no call in any case."""
    lines = (pathlib.Path(__file__).parent / "home-general.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    evaluated = lines[1::2] if arguments.held_out else lines[0::2]
    sentences = [{"text": line, "outcome": "talk"} for line in evaluated]
    if pathlib.Path(arguments.source).is_file():
        return nlu(arguments)[0], sentences
    data = Piles(arguments.source)
    train, _ = split(data.actions, arguments)
    return data.provider(train, [s["text"] for s in sentences]), sentences


SETS = {"piles": piles, "refusals": refusals, "status": status, "nlu": nlu, "general": general}


def main():
    arguments, rest = sys.argv[1:], None
    if "--" in arguments:
        place = arguments.index("--")
        arguments, rest = arguments[:place], arguments[place + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("source", help="the folder or file with the phrases")
    parser.add_argument("--held-out", action="store_true", help="evaluate the odd rows, with all even ones as examples")
    parser.add_argument("--fold", type=fold, help="evaluate one of several parts of the even rows, such as 0/6")
    parser.add_argument("--out", help="folder for provider.json and sentences.jsonl")
    parser.add_argument("--swapped", action="store_true", help="exchange the development split and its examples")
    parsed = parser.parse_args(arguments)
    provider, sentences = SETS[parsed.set](parsed)
    folder = pathlib.Path(parsed.out or tempfile.mkdtemp(prefix="hob-home-"))
    folder.mkdir(parents=True, exist_ok=True)
    definition, data = folder / "provider.json", folder / "sentences.jsonl"
    definition.write_text(json.dumps(provider, ensure_ascii=False))
    data.write_text("".join(json.dumps(s, ensure_ascii=False) + "\n" for s in sentences))
    if rest is None:
        print(definition, data)
        return
    hob = pathlib.Path(__file__).parent.parent / "target/release/hob"
    command = [hob, "evaluate", "home", data, "--provider", definition, *rest]
    sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
