"""How the home looks in a terminal of 80 columns. Pure: a home in, lines out."""

WIDTH = 80
COLUMN = 39
BOLD, FAINT, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def clean(text):
    """What others sent, without the characters that a terminal would obey."""
    return "".join(c for c in text if c.isprintable())


def how(thing):
    """How a thing is, in at most 16 characters."""
    state = thing.state
    match thing.kind:
        case "light" if state["state"] == "on":
            return f"on {state['brightness']} % {state['tone']}"
        case "cover" if state["state"] == "half open":
            return f"{state['position']} % open"
        case "climate":
            return f"{state['mode']} {state['temperature']:.1f} ({state['measured']:.1f})"
        case "media_player" if state["state"] != "off":
            return f"{state['state']} {state['volume']} %"
    return state["state"]


def floor(things, color):
    """The lines of one floor, each COLUMN wide but for styles."""
    lines, area = [], None
    for thing in things:
        if thing.area != area:
            area = thing.area
            lines.append((BOLD, f"{area:<{COLUMN}}"))
        shown = how(thing)
        style = FAINT if shown in ("off", "docked") else ""
        lines.append((style, f"  {thing.name:<21}{shown:<16}"))
    return [f"{style}{text}{PLAIN}" if color and style else text for style, text in lines]


def clock(seconds):
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def home(home, color=False):
    """The whole home: floors side by side, and the timers below."""
    floors = {}
    for thing in home.things.values():
        floors.setdefault(thing.floor, []).append(thing)
    left, right = (floor(things, color) for things in floors.values())
    blank = " " * COLUMN
    lines = [
        f"{left[row] if row < len(left) else blank}  {right[row] if row < len(right) else blank}".rstrip()
        for row in range(max(len(left), len(right)))
    ]
    timers = ", ".join(clock(timer.left) for timer in home.timers)
    return lines + [f"Timers: {timers or 'none'}"]
