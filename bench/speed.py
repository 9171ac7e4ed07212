"""How fast both servers read and write."""

import sys
import time

from servers import Hob, Peer, all_at_once, complete, prompt_of


def both(arguments, folder, parallel=1):
    hob = Hob(folder / "hob", arguments.model, arguments.threads, parallel=parallel)
    peer = Peer(folder / "peer", arguments.model, arguments.threads, arguments.llama_server, parallel)
    return hob, peer


def alternating(servers, rounds, measure):
    """What `measure(server, number)` returns for each server and round, by the server's name;
    each round begins with the other one."""
    figures = {server.name: [] for server in servers}
    for number in range(rounds):
        for server in servers if number % 2 else servers[::-1]:
            figures[server.name].append(measure(server, number))
    return [figures[server.name] for server in servers]


def salted(server, number):
    """A number of its own for each server and round."""
    return 2 * number + (server.name == "hob") + 1


def one_stream(arguments, folder, table):
    def measure(server, number):
        # The stories repeat themselves; what drafts make of that is measured apart.
        plain = {"speculative": False} if server.name == "hob" else {}
        answer = complete(server.socket, prompt_of(380, salted(server, number) * 7), 128, **plain)
        return answer.prefill(), answer.decode()

    hob, peer = both(arguments, folder)
    with hob, peer:
        same = [complete(s.socket, prompt_of(40, 1), 48).text for s in (hob, peer)]
        print(f"the same greedy answer from both: {same[0] == same[1]}", file=sys.stderr)
        own, other = alternating((hob, peer), arguments.rounds, measure)
    for at, what in enumerate(("prefill", "decode")):
        table.compared(f"{what}, tokens/s", [f[at] for f in own], [f[at] for f in other])


def second_turns(arguments, folder, table):
    """Time to the first token of a chat's second turn, and of its first for scale."""

    def measure(server, number):
        prompt = prompt_of(380, 5000 + salted(server, number))
        first = complete(server.socket, prompt, 48)
        prompt += first.text + "\nWhat happened next? Tell it in one sentence.\n"
        return first.first, complete(server.socket, prompt, 8).first

    hob, peer = both(arguments, folder)
    with hob, peer:
        own, other = alternating((hob, peer), arguments.rounds, measure)
    for at, what in enumerate(("first", "second")):
        table.compared(
            f"chat, {what} turn: time to first token, s", [f[at] for f in own], [f[at] for f in other]
        )


def four_streams(arguments, folder, table):
    """Tokens per second of four answers at once, all together."""

    def measure(server, number):
        prompts = [prompt_of(30, 9000 + 4 * salted(server, number) + at) for at in range(4)]
        begin = time.perf_counter()
        answers = all_at_once([lambda p=p: complete(server.socket, p, 96) for p in prompts])
        return sum(answer.tokens for answer in answers) / (time.perf_counter() - begin)

    hob, peer = both(arguments, folder, parallel=4)
    with hob, peer:
        own, other = alternating((hob, peer), arguments.rounds, measure)
    table.compared("four streams at once, tokens/s in total", own, other)


FIELDS = ("name", "room", "kind", "power", "state")
DEVICES = (
    ("Ceiling lamp", "kitchen", "light", 12, "on"),
    ("Floor lamp", "living room", "light", 9, "off"),
    ("Table fan", "bedroom", "fan", 35, "on"),
    ("Heater", "bathroom", "climate", 1200, "off"),
    ("Coffee machine", "kitchen", "switch", 900, "off"),
    ("Garage door", "garage", "cover", 150, "off"),
    ("Desk lamp", "office", "light", 7, "on"),
    ("Radio", "hallway", "media", 20, "off"),
)


def fields_to_json(devices):
    """The devices' fields as lines of text, and the same as lines of JSON."""
    lines = ["; ".join(f"{f}: {v}" for f, v in zip(FIELDS, device)) for device in devices]
    objects = [
        "{" + ", ".join(f'"{f}": "{v}"' for f, v in zip(FIELDS, device)) + "}" for device in devices
    ]
    return "\n".join(lines), "\n".join(objects)


def repetitive(kind, number):
    """A prompt whose answer repeats much of it."""
    if kind == "text":
        story = prompt_of(70, 40 + number)
        return f"The text:\n{story}\n\nThe same text once more, word for word:\n"
    at = number % len(DEVICES)
    devices = DEVICES[at:] + DEVICES[:at]
    shown, answer = fields_to_json(devices[:3])
    asked, _ = fields_to_json(devices[3:])
    return f"Text:\n{shown}\n\nJSON:\n{answer}\n\nText:\n{asked}\n\nJSON:\n"


def drafts(arguments, folder, table):
    """What repeats, with drafts and without, on both servers: decode, tokens/s."""

    def rate(server, kind, number, **more):
        return complete(server.socket, repetitive(kind, number), 128, **more).decode()

    hob, plain = both(arguments, folder)
    drafting = Peer(
        folder / "drafting", arguments.model, arguments.threads, arguments.llama_server,
        flags=("--spec-type", "ngram-simple"),
    )
    with hob, plain, drafting:
        for kind, what in (("text", "a text again"), ("json", "fields as JSON")):
            on, off, other, other_plain = [], [], [], []
            for number in range(arguments.rounds):
                on.append(rate(hob, kind, number))
                other.append(rate(drafting, kind, number))
                off.append(rate(hob, kind, number, speculative=False))
                other_plain.append(rate(plain, kind, number))
            table.compared(f"{what}, with n-gram drafts, tokens/s", on, other)
            table.compared(f"{what}, without, tokens/s", off, other_plain)
            table.own(f"{what}: with drafts / without", [a / b for a, b in zip(on, off)])
