"""Random schemas, each answer checked against its own; and random tools, each call checked against
its own. Run by structured.rs: SOCKET MODEL COUNT TOOLS SEED."""

import json
import random
import sys

import httpx2
import jsonschema

socket, model, count, tool_count, seed = sys.argv[1:]
chance = random.Random(int(seed))
client = httpx2.Client(
    base_url="http://localhost", transport=httpx2.HTTPTransport(uds=socket), timeout=300
)
WORDS = ["kitchen", "office", "on", "off", "warm white", "Küche", "a \"quoted\" word", "20 °C", "x"]


def leaf():
    low = chance.randint(-50, 50)
    return chance.choice(
        [
            {"type": "boolean"},
            {"type": "null"},
            {"enum": chance.sample(WORDS, chance.randint(1, len(WORDS)))},
            {"const": chance.choice([7, "seven", None, [1, "two"], {"a": True}])},
            {"type": "integer", "minimum": low, "maximum": low + chance.randint(0, 900)},
            # Without a step, a model may add digits for ever.
            {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.01},
            {"type": "string", "minLength": 1, "maxLength": chance.randint(1, 20)},
            {"type": "string", "pattern": "^[A-Z][a-z]{2,8}( [0-9]{1,3})?$"},
            {"type": "string", "format": "date"},
        ]
    )


def schema(depth):
    kind = chance.random()
    if depth == 0 or kind < 0.3:
        return leaf()
    if kind < 0.5:
        return {
            "type": "array",
            "items": schema(depth - 1),
            "minItems": chance.randint(0, 2),
            "maxItems": chance.randint(2, 4),
        }
    if kind < 0.6:
        return {"anyOf": [schema(depth - 1) for _ in range(chance.randint(1, 3))]}
    names = chance.sample(["name", "room", "brightness_percent", "state", "ünïcode", "a b"], 3)
    return {
        "type": "object",
        "properties": {name: schema(depth - 1) for name in names},
        "required": chance.sample(names, chance.randint(0, 3)),
        "additionalProperties": False,
    }


def checked(text, wanted):
    try:
        jsonschema.validate(json.loads(text), wanted)
    except (ValueError, jsonschema.ValidationError) as error:
        raise AssertionError(f"{wanted}: {text}: {error}") from error


def tool(name):
    """A tool with fields that need not be given, of which no other is taken."""
    fields = {field: schema(1) for field in chance.sample(WORDS[:4], chance.randint(0, 3))}
    parameters = {
        "type": "object",
        "properties": fields,
        "required": chance.sample(list(fields), chance.randint(0, len(fields))),
    }
    description = chance.choice(["", "Switches something.", "<tool_call> \"quoted\" \\ </tools>"])
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


tokens = passes = forced = 0
for number in range(int(count)):
    wanted = schema(3)
    jsonschema.Draft202012Validator.check_schema(wanted)
    response = client.post(
        "/v1/completions",
        json={
            "model": model,
            "prompt": "The state of the house as JSON: ",
            "max_tokens": 700,
            "temperature": chance.choice([0, 0.8, 1.5]),
            "seed": number,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": wanted},
            },
        },
    )
    assert response.status_code == 200, (wanted, response.text)
    answer = response.json()
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "stop", (wanted, answer)
    checked(choice["text"], wanted)
    usage = answer["usage"]
    details = usage["completion_tokens_details"]
    tokens += usage["completion_tokens"]
    passes += details["forward_passes"]
    forced += details["forced_tokens"]
print(f"{count} answers, {tokens} tokens, {forced} of them forced, {passes} passes")
assert passes <= tokens, (passes, tokens)

calls = 0
for number in range(int(tool_count)):
    tools = [tool(name) for name in chance.sample(["set", "get-state", "a_b", "x1"], 3)]
    parameters = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    named = {"type": "function", "function": {"name": chance.choice(list(parameters))}}
    response = client.post(
        "/v1/chat/completions",
        json={
            "model": model,
            "messages": [{"role": "user", "content": "Do what is best for the house."}],
            "max_tokens": 1500,
            "temperature": chance.choice([0, 1.2]),
            "seed": number,
            "tools": tools,
            "tool_choice": chance.choice(["required", "required", named]),
            "parallel_tool_calls": chance.random() < 0.3,
        },
    )
    assert response.status_code == 200, (tools, response.text)
    choice = response.json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls", (tools, response.text)
    for call in choice["message"]["tool_calls"]:
        wanted = parameters[call["function"]["name"]]
        checked(call["function"]["arguments"], {**wanted, "additionalProperties": False})
        calls += 1
print(f"{tool_count} answers with {calls} calls")
