"""Speaks to hob over TCP in the way of Home Assistant's integration `llama_cpp`, without Home Assistant.

    python try.py http://127.0.0.1:8181/v1 TOKEN_FILE ["turn on the kitchen light" ...]

Needs OpenAI's client (`pip install openai`). First come the questions with which the integration
checks a server when it is set up, then each sentence in a loop: the model calls tools of a small
simulated home, gets their results, and says something in the end.
"""

import asyncio
import json
import pathlib
import sys

import openai

# Home Assistant gives up after as many rounds.
ROUNDS = 10
# The one that hob has loaded, whatever its name: others are installed and not answered with.
MODEL = "default"

LIGHTS = {
    "Kitchen Light": {"area": "Kitchen", "state": "off", "brightness": 0},
    "Desk Lamp": {"area": "Office", "state": "on", "brightness": 60},
    "Hall Light": {"area": "Hall", "state": "off", "brightness": 0},
}


def system_prompt():
    """What the model is told: who it is, and what is in the home."""
    lines = [
        "You control the lights of a home. Call a tool when one is asked for, with the name of the",
        "light as it is in the list. Answer in one short sentence otherwise.",
        "Devices:",
    ]
    for name, light in LIGHTS.items():
        lines += [
            f"- names: {name}",
            "  domain: light",
            f"  areas: {light['area']}",
            f"  state: '{light['state']}'",
        ]
    return "\n".join(lines)


def tool(name, description, properties=None):
    """A tool as Home Assistant describes it: names of devices are any text, nothing is required."""
    parameters = {
        "name": {"type": "string"},
        "area": {"type": "string"},
        "domain": {"type": "array", "items": {"type": "string", "enum": ["light"]}},
    }
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {**parameters, **(properties or {})},
                "required": [],
            },
        },
    }


TOOLS = [
    tool("HassTurnOn", "Turns on a device."),
    tool("HassTurnOff", "Turns off a device."),
    tool(
        "HassLightSet",
        "Sets the brightness of a light in percent.",
        {"brightness": {"type": "integer", "minimum": 0, "maximum": 100}},
    ),
]


def act(name, arguments):
    """What the home does with a call, and what it tells the model of that."""
    wanted = str(arguments.get("name", "")).casefold()
    area = str(arguments.get("area", "")).casefold()
    found = [
        light
        for light_name, light in LIGHTS.items()
        if light_name.casefold() == wanted or (not wanted and light["area"].casefold() == area)
    ]
    if not found:
        return {"error": "MatchFailedError", "error_text": "no light has that name"}
    for light in found:
        if name == "HassTurnOff":
            light.update(state="off", brightness=0)
        else:
            light.update(state="on", brightness=arguments.get("brightness", 100))
    return {"response_type": "action_done", "success": len(found)}


async def one_round(client, messages, **more):
    """One streamed answer: the assistant's message, put together from its pieces."""
    said, calls, reason = "", {}, None
    stream = await client.chat.completions.create(
        messages=messages, tools=TOOLS, temperature=0, top_p=1, user="try.py", stream=True, **more
    )
    async for chunk in stream:
        if not chunk.choices:
            continue
        choice = chunk.choices[0]
        reason = choice.finish_reason or reason
        said += choice.delta.content or ""
        for delta in choice.delta.tool_calls or []:
            call = calls.setdefault(delta.index, {"id": delta.id, "name": "", "arguments": ""})
            call["name"] += delta.function.name or ""
            call["arguments"] += delta.function.arguments or ""
    # What is said may be cut by the limit; a call must not be.
    assert reason in ("stop", "length") if not calls else reason == "tool_calls", (reason, calls)
    message = {"role": "assistant", "content": said or None}
    if calls:
        message["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in calls.values()
        ]
    return message


async def ask(client, sentence, first_choice="auto"):
    """The loop: until the model calls nothing more. Returns what it said in the end."""
    messages = [
        {"role": "system", "content": system_prompt()},
        {"role": "user", "content": sentence},
    ]
    print(f"> {sentence}")
    choice = first_choice
    for _ in range(ROUNDS):
        message = await one_round(
            client, messages, model=MODEL, max_tokens=300, tool_choice=choice
        )
        messages.append(message)
        if "tool_calls" not in message:
            print(f"  says: {message['content']}")
            return message["content"]
        for call in message["tool_calls"]:
            function = call["function"]
            arguments = json.loads(function["arguments"])
            result = act(function["name"], arguments)
            print(f"  calls {function['name']} {function['arguments']} -> {json.dumps(result)}")
            messages.append(
                {"role": "tool", "tool_call_id": call["id"], "content": json.dumps(result)}
            )
        # Small models call for ever; with the result they are to talk.
        choice = "none" if first_choice == "required" else "auto"
    raise AssertionError(f"no answer after {ROUNDS} rounds")


async def set_up(client):
    """What the integration asks a server before it trusts it."""
    models = [model.id async for model in await client.with_options(timeout=10).models.list()]
    assert models, "hob has no model"
    print(f"installed: {', '.join(models)}")
    for stream in (False, True):
        answer = await client.chat.completions.create(
            model=MODEL,
            messages=[
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": "Which river flows through Vienna?"},
            ],
            tools=[
                {
                    "type": "function",
                    "function": {
                        "name": "nothing",
                        "description": "Does nothing.",
                        "parameters": {"type": "object", "properties": {}},
                    },
                }
            ],
            max_tokens=3,
            stream=stream,
        )
        if stream:
            reasons = [c.choices[0].finish_reason async for c in answer if c.choices]
            assert reasons[-1], reasons
        else:
            assert answer.choices[0].finish_reason, answer


def read_token(path):
    """The token, as it is in its file."""
    try:
        return pathlib.Path(path).read_text(encoding="ascii").strip()
    except OSError as error:
        sys.exit(f"the token can't be read from {path}: {error.strerror}")


async def main():
    """Sets up, then asks."""
    base_url, token_file, *sentences = sys.argv[1:]
    token = read_token(token_file)
    async with openai.AsyncOpenAI(base_url=base_url, api_key=token, timeout=120) as client:
        await set_up(client)
        for sentence in sentences or ["turn on the kitchen light", "which lights are on?"]:
            # As Home Assistant asks, and then so that even the smallest model calls.
            await ask(client, sentence)
            assert await ask(client, sentence, first_choice="required")
    async with openai.AsyncOpenAI(base_url=base_url, api_key="x" * 40, max_retries=0) as stranger:
        try:
            await stranger.models.list()
        except openai.AuthenticationError as error:
            print(f"without the token: {error.status_code}")
        else:
            raise AssertionError("a wrong token was taken")


try:
    asyncio.run(main())
except openai.AuthenticationError:
    sys.exit("hob refuses this token: it must be the one in the file that hobd's settings name")
