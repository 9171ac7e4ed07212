"""Figures with their spread, and the table that they end in."""

import statistics


def spread(values, digits=2):
    low, middle, high = (f"{v:.{digits}f}" for v in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}–{high})"


class Table:
    def __init__(self):
        self.rows = []

    def compared(self, what, own, other):
        """Figures of both servers, round by round."""
        ratio = [a / b for a, b in zip(own, other)]
        self.rows.append((what, spread(own), spread(other), spread(ratio)))

    def own(self, what, values, digits=2):
        """A figure that the peer has no like of: one, several, or words."""
        if isinstance(values, list):
            values = spread(values, digits)
        self.rows.append((what, values, "–", "–"))

    def within(self, what, own, base):
        """Figures of hob, and their ratio to others of hob's own."""
        ratio = [a / b for a, b in zip(own, base)]
        self.rows.append((what, spread(own), "–", f"{spread(ratio)} of hob's own"))

    def print(self):
        print("| what | hob | llama-server | hob / llama-server |\n| --- | --- | --- | --- |")
        for row in self.rows:
            print("| " + " | ".join(row) + " |")
