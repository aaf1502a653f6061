"""Drives a Nereid server with OpenAI's own Python client and asserts what it sees.

Usage: openai_client.py BASE_URL SAYS
SAYS is what the scripted engine repeats; a prompt of as many bytes makes it begin at its beginning.
"""

import asyncio
import sys

import openai
import pydantic

base_url, says = sys.argv[1], sys.argv[2]
prompt = "." * len(says.encode())
client = openai.OpenAI(base_url=base_url, api_key="secret", max_retries=0)
messages = [{"role": "user", "content": "Hello"}]


def check_models():
    assert [model.id for model in client.models.list()] == ["test"]
    assert client.models.retrieve("test").owned_by == "nereid"


def check_chat():
    answer = client.chat.completions.create(
        model="test", messages=messages, max_completion_tokens=12, temperature=0, n=2, seed=7,
        logprobs=True, top_logprobs=2,
    )
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.finish_reason == "length" for choice in answer.choices)
    assert answer.choices[0].message.role == "assistant"
    entries = answer.choices[0].logprobs.content
    assert len(entries) == 12 and len(entries[0].top_logprobs) == 2
    assert answer.usage.completion_tokens == 24
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 24
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def check_chat_stream():
    stream = client.chat.completions.create(
        model="test", messages=messages, max_tokens=12, temperature=0, stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 12
    assert chunks[-2].choices[0].finish_reason == "length"
    assert len({chunk.id for chunk in chunks}) == 1
    # The role, a chunk a token, the usage.
    assert len(chunks) == 14, len(chunks)


def check_completions():
    fields = dict(model="test", prompt=prompt, max_tokens=len(says.encode()), temperature=0)
    whole = client.completions.create(**fields).choices[0].text
    pieces = [chunk.choices[0].text for chunk in client.completions.create(**fields, stream=True)]
    assert whole == says == "".join(pieces), (whole, pieces)
    stopped = client.completions.create(**fields, stop=says[4:6]).choices[0]
    assert stopped.text == says[:4] and stopped.finish_reason == "stop"
    batch = client.completions.create(model="test", prompt=[prompt, prompt], max_tokens=2, temperature=0)
    assert [choice.index for choice in batch.choices] == [0, 1]
    extended = client.completions.create(**fields, extra_body={"top_k": 5, "min_p": 0.1, "ignore_eos": True})
    assert extended.usage.completion_tokens == len(says.encode())


def expect(error_class, **fields):
    try:
        client.chat.completions.create(**{"model": "test", "messages": messages, **fields})
    except error_class as error:
        return error
    raise AssertionError(f"{fields} raised no {error_class.__name__}")


class Light(pydantic.BaseModel):
    on: bool


def check_structured_output():
    fields = {"model": "test", "messages": messages, "max_tokens": 200}
    parsed = client.chat.completions.parse(**fields, response_format=Light)
    assert isinstance(parsed.choices[0].message.parsed.on, bool), parsed
    tool = openai.pydantic_function_tool(Light)
    called = client.chat.completions.parse(**fields, tools=[tool], tool_choice="required", parallel_tool_calls=False)
    call = called.choices[0].message.tool_calls[0].function
    assert call.name == "Light" and isinstance(call.parsed_arguments.on, bool), called


def check_embeddings():
    # The client asks for base64 by itself, and decodes it.
    one = client.embeddings.create(model="test", input="Hello")
    assert len(one.data) == 1 and abs(sum(value * value for value in one.data[0].embedding) - 1) < 1e-5
    floats = client.embeddings.create(model="test", input=["Hello", "there"], encoding_format="float")
    assert [entry.index for entry in floats.data] == [0, 1] and floats.usage.prompt_tokens == 10
    pairs = zip(floats.data[0].embedding, one.data[0].embedding)
    assert all(abs(a - b) < 1e-6 for a, b in pairs)
    ids = client.embeddings.create(model="test", input=[list(b"Hello"), list(b"there")], dimensions=4)
    assert [len(entry.embedding) for entry in ids.data] == [4, 4]
    try:
        client.embeddings.create(model="test", input="")
    except openai.BadRequestError as error:
        assert error.param == "input", error.body
    else:
        raise AssertionError("an empty input was taken")


def check_errors():
    error = expect(openai.BadRequestError, temperature=5)
    assert error.param == "temperature" and error.code == "invalid_value", error.body
    assert expect(openai.NotFoundError, model="nope").code == "model_not_found"
    assert expect(openai.BadRequestError, max_tokens=10**6).code == "context_length_exceeded"
    assert expect(openai.BadRequestError, response_format={"type": "yaml"}).param.startswith("response_format")
    stranger = openai.OpenAI(base_url=base_url, api_key="wrong", max_retries=0)
    try:
        stranger.models.list()
    except openai.AuthenticationError as error:
        assert error.code == "invalid_api_key"
    else:
        raise AssertionError("a wrong key was let in")


async def check_async():
    async_client = openai.AsyncOpenAI(base_url=base_url, api_key="secret", max_retries=0)

    async def one(index):
        text = ""
        stream = await async_client.completions.create(
            model="test", prompt=prompt, max_tokens=20, temperature=0, stream=True
        )
        async for chunk in stream:
            text += chunk.choices[0].text
            if index % 2:
                # Half of them leave early.
                await stream.close()
                return text
        return text

    texts = await asyncio.gather(*(one(index) for index in range(16)))
    assert all(says.startswith(text[: len(says)]) for text in texts), texts
    await async_client.close()


check_models()
check_chat()
check_structured_output()
check_chat_stream()
check_completions()
check_embeddings()
check_errors()
asyncio.run(check_async())
print(f"openai {openai.__version__}: ok")
