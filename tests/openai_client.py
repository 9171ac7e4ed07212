"""OpenAI's own client against hobd, through a Unix socket. Run by chat.rs: SOCKET MODEL."""

import json
import sys
from typing import Literal

import httpx2
import openai
import pydantic

socket, model = sys.argv[1:]
client = openai.OpenAI(
    base_url="http://localhost/v1",
    api_key="none is needed",
    http_client=openai.DefaultHttpxClient(transport=httpx2.HTTPTransport(uds=socket)),
    timeout=120,
)
question = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France? Answer in one short sentence."},
]
asking = {"model": model, "messages": question, "temperature": 0, "max_tokens": 48}

models = client.models.list()
assert model in [entry.id for entry in models], models
assert client.models.retrieve(model).id == model

whole = client.chat.completions.create(**asking)
text = whole.choices[0].message.content
assert "Paris" in text, whole
assert whole.choices[0].finish_reason == "stop", whole
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

pieces = []
usage = None
for chunk in client.chat.completions.create(
    **asking, stream=True, stream_options={"include_usage": True}
):
    for choice in chunk.choices:
        pieces.append(choice.delta.content or "")
    usage = chunk.usage or usage
assert "".join(pieces) == text, pieces
assert usage.completion_tokens == whole.usage.completion_tokens, usage

parts = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}],
    max_completion_tokens=8,
    seed=1,
)
assert parts.choices[0].message.content, parts

completion = client.completions.create(
    model=model, prompt="One, two, three, four,", temperature=0, max_tokens=8
)
assert "five" in completion.choices[0].text, completion



class Room(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    name: Literal["kitchen", "office"]
    temperature_in_degrees: int = pydantic.Field(ge=10, le=30)
    lights_switched_on: bool


# The client makes a strict schema of a class, and one of its objects of the answer.
described = client.chat.completions.parse(
    model=model,
    messages=[{"role": "user", "content": "Describe a room of a house."}],
    response_format=Room,
)
room = described.choices[0].message.parsed
assert 10 <= room.temperature_in_degrees <= 30, described

pieces = []
with client.chat.completions.stream(
    model=model,
    messages=[{"role": "user", "content": "Describe a room of a house."}],
    response_format=Room,
) as stream:
    for event in stream:
        if event.type == "content.delta":
            pieces.append(event.delta)
    streamed = stream.get_final_completion()
assert Room.model_validate_json("".join(pieces)) == streamed.choices[0].message.parsed, pieces

try:
    client.chat.completions.create(
        **asking,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "none", "strict": True, "schema": {"enum": []}},
        },
    )
except openai.BadRequestError as error:
    assert error.code == "invalid_schema" and error.body["hint"], error
else:
    raise AssertionError("a schema that nothing satisfies was accepted")

tools = [
    {
        "type": "function",
        "function": {
            "name": "get_temperature",
            "description": "Gets the temperature of a room.",
            "parameters": {
                "type": "object",
                "properties": {"room": {"type": "string", "enum": ["kitchen", "office"]}},
                "required": ["room"],
            },
        },
    }
]
asked = [{"role": "user", "content": "How warm is it in the kitchen?"}]
calling = {"model": model, "messages": asked, "tools": tools, "temperature": 0}
called = client.chat.completions.create(**calling, tool_choice="required")
choice = called.choices[0]
assert choice.finish_reason == "tool_calls" and choice.message.content is None, called
for call in choice.message.tool_calls:
    assert call.function.name == "get_temperature", called
    assert json.loads(call.function.arguments)["room"] in ("kitchen", "office"), called

arguments = {}
for chunk in client.chat.completions.create(**calling, tool_choice="required", stream=True):
    for delta in chunk.choices[0].delta.tool_calls or []:
        arguments.setdefault(delta.index, "")
        arguments[delta.index] += delta.function.arguments or ""
whole = [call.function.arguments for call in choice.message.tool_calls]
assert list(arguments.values()) == whole, arguments

# Models that think are told not to in either way; this one knows of neither.
told = {"chat_template_kwargs": {"enable_thinking": False}}
unthinking = client.chat.completions.create(
    **calling, tool_choice="required", reasoning_effort="none", extra_body=told
)
assert unthinking.choices[0].message.tool_calls, unthinking

# The client's own object goes back as it is.
results = [
    {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}
    for call in choice.message.tool_calls
]
told = client.chat.completions.create(
    model=model, messages=[*asked, choice.message, *results], tools=tools, tool_choice="none"
)
assert told.choices[0].message.content, told

# The client asks for base64 unless told otherwise, and decodes it.
texts = ["A cat sleeps on the sofa.", "Interest rates rose again."]
packed = client.embeddings.create(model=model, input=texts)
plain = client.embeddings.create(model=model, input=texts, encoding_format="float")
assert [entry.index for entry in packed.data] == [0, 1], packed
assert packed.usage.total_tokens == packed.usage.prompt_tokens > 8, packed.usage
for one, other in zip(packed.data, plain.data, strict=True):
    assert len(one.embedding) == len(other.embedding) > 100
    assert abs(sum(number * number for number in one.embedding) - 1) < 1e-3
    assert all(abs(a - b) < 1e-6 for a, b in zip(one.embedding, other.embedding))

# The client makes its exceptions from the status and the body.
try:
    client.chat.completions.create(model="no-such-model", messages=question)
except openai.NotFoundError as error:
    assert error.code == "model_not_found", error
    assert error.body["hint"], error
else:
    raise AssertionError("an unknown model was accepted")

try:
    client.chat.completions.create(**{**asking, "temperature": 3})
except openai.BadRequestError as error:
    assert error.param == "temperature", error
else:
    raise AssertionError("a temperature of 3 was accepted")

# Leaving a stream early is a cancellation; the next question is answered all the same.
with client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Tell me a long story."}],
    max_tokens=1000,
    stream=True,
) as stream:
    next(iter(stream))
again = client.chat.completions.create(**asking)
assert again.choices[0].message.content == text, again
