#!/usr/bin/env python3
"""Measures the engines of a package beside each other, and prints a table for RESULTS.md.

One hobd each with the same model file and context and one thread, asked in turn. What counts is the
engine's processor time: other programs on the machine take none of it, though they do of its caches.
The ratios are to the first level, round by round.

    bench/kernels.py --model FILE [--engines FOLDER] [--levels NAME...] [--rounds N]

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
from servers import TREE, Hob, complete, processor_ticks, prompt_of
from table import spread

WRITTEN = 48


class Level(Hob):
    def __init__(self, folder, model, engines, name):
        super().__init__(folder, model, 1, kernels=name)
        self.name = name
        self.environment["HOB_ENGINE_PATH"] = str(engines)


def seconds_of(pid, request):
    """What `request()` returns, and the process's processor time for it."""
    before = processor_ticks(pid)
    answer = request()
    return answer, (processor_ticks(pid) - before) / os.sysconf("SC_CLK_TCK")


def one_round(level, salt):
    """Tokens per second of processor time, read and written. What is read for the second request is one
    token, as it goes on from the first."""
    pid, prompt = level.engine_pid(), prompt_of(200, salt)
    read, seconds_read = seconds_of(pid, lambda: complete(level.socket, prompt, 1))
    written, seconds_written = seconds_of(
        pid, lambda: complete(level.socket, prompt, WRITTEN, speculative=False)
    )
    return read.prompt_tokens / seconds_read, (written.tokens - 1) / seconds_written


def measure(arguments, folder):
    """Figures of each round by the level's name."""
    levels = [
        Level(folder / name, arguments.model, arguments.engines.resolve(), name) for name in arguments.levels
    ]
    figures = {level.name: [] for level in levels}
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
                figures[level.name].append(one_round(level, 1 + number * len(levels) + at))
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--engines", type=pathlib.Path, default=TREE / "target" / "release" / "engines")
    parser.add_argument("--levels", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    arguments.levels = arguments.levels or sorted(path.name for path in arguments.engines.iterdir())
    if not arguments.levels:
        sys.exit(f"no engines in {arguments.engines}")
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(arguments, pathlib.Path(folder))
    print(f"{arguments.model.name}, one thread, {arguments.rounds} rounds; {machine()}\n")
    base = arguments.levels[0]
    print(f"| kernels | read, tokens/s | of {base} | written, tokens/s | of {base} |")
    print("| --- | --- | --- | --- | --- |")
    for name, rounds in figures.items():
        cells = []
        for at in range(2):
            own, other = ([figure[at] for figure in figures[which]] for which in (name, base))
            cells += [spread(own, 1), spread([a / b for a, b in zip(own, other)])]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
