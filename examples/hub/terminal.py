"""The terminal: lines in, a log out, and above it the home as it is, if there is room for that."""

import asyncio
import os
import shutil
import sys
import threading

import view

# Fewer lines below the home can't be read along.
LOG_LINES_MIN = 6
LINE_BYTES_MAX = 8000


class Terminal:
    """Without `live` it is a plain log. Otherwise the home stands at the top, and what is written and
    typed scrolls below, which is a terminal's scroll region: nothing that is being typed is drawn over.
    """

    def __init__(self, home, live):
        self.home = home
        rows = shutil.get_terminal_size().lines
        self.top = len(view.home(home)) + 1
        self.live = live and sys.stdout.isatty() and rows >= self.top + LOG_LINES_MIN
        self.typed = sys.stdin.isatty() and sys.stdout.isatty()
        self.lines = []
        self.waiting = []
        self.ended = False

    def __enter__(self):
        if self.live:
            rows = shutil.get_terminal_size().lines
            self._put(f"\x1b[2J\x1b[{self.top + 1};{rows}r\x1b[{rows};1H")
            self.draw()
        return self

    def __exit__(self, *_):
        if self.live:
            # All rows scroll again, and the shell goes on below.
            self._put("\x1b7\x1b[r\x1b8\n")

    def _put(self, text):
        sys.stdout.write(text)
        sys.stdout.flush()

    def log(self, text):
        """Writes a line, or several."""
        shown = "".join(view.clean(line) + "\n" for line in text.splitlines())
        if self.waiting and self.typed:
            shown = f"\r\x1b[K{shown}{self.waiting[-1][0]}"
        self._put(shown)

    def draw(self):
        """Shows the home as it is."""
        if self.live:
            rows = view.home(self.home, color=True) + ["-" * view.WIDTH]
            drawn = "".join(f"\x1b[{row};1H\x1b[K{text}" for row, text in enumerate(rows, 1))
            self._put(f"\x1b7{drawn}\x1b8")

    def listen(self):
        """Begins to read. A thread does so, as files, pipes and terminals block in their own ways; it
        reads the descriptor, since Python's own standard input holds a lock at its end."""
        loop = asyncio.get_running_loop()

        def read():
            rest = b""
            while data := os.read(0, LINE_BYTES_MAX):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    loop.call_soon_threadsafe(self._heard, line)
                rest = rest[:LINE_BYTES_MAX]
            loop.call_soon_threadsafe(self._heard, rest or None)
            loop.call_soon_threadsafe(self._heard, None)

        threading.Thread(target=read, daemon=True).start()

    def _heard(self, line):
        if line is None:
            self.ended = True
        else:
            self.lines.append(line.decode(errors="replace").strip())
        self._hand_out()

    def _hand_out(self):
        # Who asked last is answered first: a confirmation comes before the next sentence.
        while self.waiting and (self.lines or self.ended):
            _, waiting = self.waiting.pop()
            waiting.set_result(self.lines.pop(0) if self.lines else None)

    async def line(self, prompt="> "):
        """The next line, or None at the end of the input."""
        if self.typed:
            self._put(prompt)
        waiting = asyncio.get_running_loop().create_future()
        entry = (prompt, waiting)
        self.waiting.append(entry)
        self._hand_out()
        try:
            line = await waiting
        finally:
            if entry in self.waiting:
                self.waiting.remove(entry)
            if self.waiting and self.typed:
                self._put(self.waiting[-1][0])
        if not self.typed and line is not None:
            # What is typed is seen already; what comes through a pipe is not.
            self._put(f"{prompt}{view.clean(line)}\n")
        return line
