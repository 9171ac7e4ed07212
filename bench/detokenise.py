#!/usr/bin/env python3
"""Writes WikiText as people write: its tokens were parted by blanks.

usage: bench/detokenise.py wikitext-2-test.txt > articles.txt
"""

import re
import sys


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    for mark in "-,.":
        text = text.replace(f" @{mark}@ ", mark)
    text = re.sub(r" ([,.;:!?%)\]])", r"\1", text)
    text = re.sub(r"([(\[]) ", r"\1", text)
    text = re.sub(r" ('s|'t|'re|'ve|'ll|'d|'m|n't)\b", r"\1", text)
    text = text.replace("s ' ", "s' ")
    text = re.sub(r'" (.*?) "', r'"\1"', text)
    text = re.sub(r"\$ (\d)", r"$\1", text)
    sys.stdout.write(re.sub(r"^ +| +$", "", text, flags=re.MULTILINE))


if __name__ == "__main__":
    main()
