#!/usr/bin/env python3
"""Measures the engines of a package beside each other, and prints a table for RESULTS.md.

One hobd each with the same model file, threads and context, alternating request by request, so that
whatever else the machine does hits all. The first of the folder is what the others are compared with.

    bench/kernels.py --model FILE [--engines FOLDER] [--levels NAME...] [--threads N] [--rounds N]

The folder holds LEVEL/hob-engine, as scripts/package leaves it in target/release/engines. Levels that
this processor can't run are refused by hobd; leave them out.
"""

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile

from compare import machine
from servers import TREE, Hob, complete, prompt_of
from table import spread


class Level(Hob):
    def __init__(self, folder, model, threads, engines, name):
        super().__init__(folder, model, threads, kernels=name)
        self.name = name
        self.environment["HOB_ENGINE_PATH"] = str(engines)


def measure(arguments, folder):
    """Tokens per second read and written, round by round, by the level's name."""
    levels = [
        Level(folder / name, arguments.model, arguments.threads, arguments.engines.resolve(), name)
        for name in arguments.levels
    ]
    figures = {level.name: ([], []) for level in levels}
    with contextlib.ExitStack() as stack:
        for level in levels:
            stack.enter_context(level)
            told = level.status()["kernels"]["level"]
            if told != level.name:
                raise RuntimeError(f"the engine in the folder {level.name} is of {told}")
        for number in range(arguments.rounds):
            # Each level is the first one as often as any other.
            for at in range(len(levels)):
                level = levels[(at + number) % len(levels)]
                prompt = prompt_of(380, 1 + number * len(levels) + at)
                answer = complete(level.socket, prompt, 128, speculative=False)
                figures[level.name][0].append(answer.prefill())
                figures[level.name][1].append(answer.decode())
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--engines", type=pathlib.Path, default=TREE / "target" / "release" / "engines")
    parser.add_argument("--levels", nargs="+")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    arguments.levels = arguments.levels or sorted(path.name for path in arguments.engines.iterdir())
    if not arguments.levels:
        sys.exit(f"no engines in {arguments.engines}")
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(arguments, pathlib.Path(folder))
    print(f"{arguments.model.name}, {arguments.threads} threads, {arguments.rounds} rounds; {machine()}\n")
    first = figures[arguments.levels[0]]
    print(f"| kernels | prefill, tokens/s | of {arguments.levels[0]} | decode, tokens/s | of {arguments.levels[0]} |")
    print("| --- | --- | --- | --- | --- |")
    for name, both in figures.items():
        cells = []
        for own, base in zip(both, first):
            cells += [spread(own, 1), spread([a / b for a, b in zip(own, base)])]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
