"""Drives a Nereid server with one third-party client more, the way its own documentation shows, and asserts what it sees.

Usage: more_clients.py CLIENT URL TOKENIZER_FOLDER
The server answers "What is a river?" with something about a river.
"""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

client_name, url, tokenizer_folder = sys.argv[1:4]
base = f"{url}/v1"
question = "What is a river?"


def about(text):
    assert "river" in text.lower(), text


def llama_index():
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai_like import OpenAILike

    chat = OpenAILike(model="default", api_base=base, api_key="none", is_chat_model=True)
    messages = [ChatMessage(role="user", content=question)]
    about(chat.chat(messages).message.content)
    about("".join(chunk.delta or "" for chunk in chat.stream_chat(messages)))
    plain = OpenAILike(model="default", api_base=base, api_key="none", is_chat_model=False)
    assert plain.complete("A river is", max_tokens=8).text


def openai_agents():
    from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)

    async def ask(kind):
        model = kind(model="default", openai_client=AsyncOpenAI(base_url=base, api_key="none"))
        agent = Agent(name="Guide", model=model)
        about((await Runner.run(agent, question)).final_output)
        streamed = Runner.run_streamed(agent, question)
        async for _ in streamed.stream_events():
            pass
        about(streamed.final_output)

    for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel):
        asyncio.run(ask(kind))


def smolagents():
    from smolagents import OpenAIServerModel

    model = OpenAIServerModel(model_id="default", api_base=base, api_key="none")
    messages = [{"role": "user", "content": [{"type": "text", "text": question}]}]
    about(model(messages).content)
    about("".join(delta.content or "" for delta in model.generate_stream(messages)))
    from smolagents import tool

    @tool
    def look_up(word: str) -> str:
        """Looks a word up.

        Args:
            word: The word.
        """
        return word

    called = model.generate(messages, tools_to_call_from=[look_up])
    assert called.tool_calls[0].function.name == "look_up", called


def haystack():
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.dataclasses import ChatMessage
    from haystack.utils import Secret

    pieces = []
    for callback in (None, lambda chunk: pieces.append(chunk.content)):
        generator = OpenAIChatGenerator(
            api_key=Secret.from_token("none"), model="default", api_base_url=base, streaming_callback=callback
        )
        about(generator.run([ChatMessage.from_user(question)])["replies"][0].text)
    about("".join(pieces))


def autogen():
    from autogen_agentchat.agents import AssistantAgent
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    facts = dict(vision=False, function_calling=True, json_output=False, family="unknown", structured_output=False)

    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    async def ask():
        client = OpenAIChatCompletionClient(model="default", base_url=base, api_key="none", model_info=facts)
        about((await AssistantAgent("guide", model_client=client, tools=[add]).run(task=question)).messages[-1].content)
        streaming = AssistantAgent("guide", model_client=client, model_client_stream=True)
        async for message in streaming.run_stream(task=question):
            last = message
        about(last.messages[-1].content)

    asyncio.run(ask())


def dspy():
    import dspy as library

    model = library.LM("openai/default", api_base=base, api_key="none", max_tokens=100, cache=False)
    about(str(model(question)[0]))


def inspect_ai():
    import os

    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import includes
    from inspect_ai.solver import generate

    os.environ.update(NEREID_API_KEY="none", NEREID_BASE_URL=base)
    task = Task(dataset=[Sample(input=question, target="river")], solver=generate(), scorer=includes())
    [log] = eval(task, model="openai-api/nereid/default", display="none", log_dir=tempfile.mkdtemp())
    assert log.status == "success", log.error
    assert log.results.scores[0].metrics["accuracy"].value == 1


def aiperf():
    folder = tempfile.mkdtemp()
    flags = "--endpoint-type chat --streaming --request-count 6 --concurrency 2 --ui none".split()
    lengths = "--synthetic-input-tokens-mean 40 --output-tokens-mean 8".split()
    command = [str(Path(sys.executable).with_name("aiperf")), "profile", "--model", "default", "--url", url]
    command += [*flags, *lengths, "--tokenizer", tokenizer_folder, "--artifact-dir", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [export] = Path(folder).rglob("profile_export.jsonl")
    lines = export.read_text().splitlines()
    assert len(lines) == 6 and '"error":{' not in "".join(lines), lines


globals()[client_name]()
print("ok")
