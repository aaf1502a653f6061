"""Drives a Nereid server with one third-party client, the way its own documentation shows, and asserts what it sees.

Usage: clients.py CLIENT SAYS_URL CALLS_URL JSON_URL ANYTHING_URL
Each URL is a server whose model always answers the same: a sentence, a call to the tool `add`, a JSON object in a code fence; the last one's says
tokens by chance, so that only a guide makes sense of it.
"""

import asyncio
import json
import sys

says = "Once upon a time, a client asked."
client_name, says_url, calls_url, json_url, anything_url = sys.argv[1:6]
question = [{"role": "user", "content": "Tell me."}]
add = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    },
}
too_long = [{"role": "user", "content": "x" * 100_000}]


def litellm():
    import litellm as client

    fields = dict(model="hosted_vllm/test", api_base=f"{says_url}/v1", api_key="none", messages=question)
    answer = client.completion(**fields, temperature=0)
    assert answer.choices[0].message.content == says, answer
    pieces = client.completion(**fields, stream=True, stream_options={"include_usage": True})
    chunks = list(pieces)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == says
    called = client.completion(**{**fields, "api_base": f"{calls_url}/v1"}, tools=[add])
    assert json.loads(called.choices[0].message.tool_calls[0].function.arguments) == {"a": 1, "b": 2}
    try:
        client.completion(**{**fields, "model": "openai/test", "messages": too_long, "max_tokens": 10})
    except client.ContextWindowExceededError:
        pass
    else:
        raise AssertionError("an overflow of the context was not recognized")


def langchain():
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    @tool
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    fields = dict(model="test", api_key="none", temperature=0)
    model = ChatOpenAI(base_url=f"{says_url}/v1", **fields)
    assert model.invoke("Tell me.").content == says
    chunks = list(model.stream("Tell me.", stream_usage=True))
    assert "".join(chunk.content for chunk in chunks) == says
    assert sum((chunk.usage_metadata or {}).get("output_tokens", 0) for chunk in chunks) > 0
    called = ChatOpenAI(base_url=f"{calls_url}/v1", **fields).bind_tools([add]).invoke("What is 1 + 2?")
    assert called.tool_calls[0]["args"] == {"a": 1, "b": 2}, called
    responses = ChatOpenAI(base_url=f"{says_url}/v1", use_responses_api=True, **fields)
    assert responses.invoke("Tell me.").text == says


def bounded_person():
    from pydantic import BaseModel, Field

    class Person(BaseModel):
        name: str = Field(pattern="^[a-z ]{1,20}$")
        age: int = Field(ge=0, le=120)

    return Person


def instructor():
    import instructor as client
    import openai
    from pydantic import BaseModel

    class Person(BaseModel):
        name: str
        age: int

    patched = client.from_openai(openai.OpenAI(base_url=f"{json_url}/v1", api_key="none"), mode=client.Mode.MD_JSON)
    person = patched.chat.completions.create(model="test", messages=question, response_model=Person)
    assert (person.name, person.age) == ("Ada", 36)
    for mode in (client.Mode.TOOLS, client.Mode.JSON_SCHEMA):
        guided = client.from_openai(openai.OpenAI(base_url=f"{anything_url}/v1", api_key="none"), mode=mode)
        fields = dict(model="test", messages=question, max_tokens=300, max_retries=0)
        assert 0 <= guided.chat.completions.create(response_model=bounded_person(), **fields).age <= 120


def pydantic_ai():
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=f"{says_url}/v1", api_key="none")
    for model in (OpenAIChatModel("test", provider=provider), OpenAIResponsesModel("test", provider=provider)):
        assert Agent(model, instructions="Be brief.").run_sync("Tell me.").output == says

    async def streamed():
        async with Agent(OpenAIChatModel("test", provider=provider)).run_stream("Tell me.") as result:
            return await result.get_output()

    assert asyncio.run(streamed()) == says
    from pydantic_ai import NativeOutput, ToolOutput

    anything = OpenAIProvider(base_url=f"{anything_url}/v1", api_key="none")
    for model in (OpenAIChatModel("test", provider=anything), OpenAIResponsesModel("test", provider=anything)):
        for output in (ToolOutput(bounded_person()), NativeOutput(bounded_person())):
            agent = Agent(model, output_type=output, model_settings={"max_tokens": 300})
            assert 0 <= agent.run_sync("Tell me.").output.age <= 120


def anthropic():
    import anthropic as library

    client = library.Anthropic(base_url=says_url, api_key="none", max_retries=0)
    fields = dict(model="test", max_tokens=200, messages=question)
    answer = client.messages.create(**fields)
    assert answer.content[0].text == says and answer.stop_reason == "end_turn"
    with client.messages.stream(**fields) as stream:
        assert "".join(stream.text_stream) == says
        assert stream.get_final_message().usage.output_tokens > 0
    counted = client.messages.count_tokens(model="test", messages=question)
    usage = answer.usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens
    tools = [{"name": "add", "input_schema": add["function"]["parameters"]}]
    caller = library.Anthropic(base_url=calls_url, api_key="none", max_retries=0)
    called = caller.messages.create(**fields, tools=tools)
    assert called.stop_reason == "tool_use" and called.content[0].input == {"a": 1, "b": 2}
    with caller.messages.stream(**fields, tools=tools) as stream:
        assert stream.get_final_message().content[0].input == {"a": 1, "b": 2}
    try:
        client.messages.create(model="test", max_tokens=10, messages=too_long)
    except library.BadRequestError as error:
        assert "prompt is too long" in error.message
    else:
        raise AssertionError("a prompt over the context was taken")


def lm_eval():
    import openai
    from tiny_task import run_tiny_task

    questions = [("The sky is", [" blue", " a spoon"]), ("One and one is", [" two", " green"])]
    result = run_tiny_task(says_url, "test", [{"text": text, "choices": choices} for text, choices in questions])
    client = openai.OpenAI(base_url=f"{says_url}/v1", api_key="none")
    for sample, (text, choices) in zip(result["samples"]["tiny"], questions):
        for choice, (found, _) in zip(choices, (response for [response] in sample["resps"])):
            own = client.completions.create(model="test", prompt=text + choice, max_tokens=0, echo=True, logprobs=1)
            logprobs = own.choices[0].logprobs
            ours = sum(
                logprob
                for logprob, offset in zip(logprobs.token_logprobs, logprobs.text_offset)
                if logprob is not None and offset >= len(text)
            )
            assert abs(ours - found) < 1e-4, (text, choice, ours, found)


globals()[client_name]()
print("ok")
