"""Clients of OpenAI's API, each as its own documentation uses it, against a running service.

It stands alone, so that any Python that has such a client can run it:
``python tests/chat_app/api/v1/clients.py litellm http://127.0.0.1:7860/v1``. Exit code 77: the
client is not installed.
"""

import asyncio
import importlib.util
import sys

ASKED = [{"role": "system", "content": ""}, {"role": "user", "content": "Capital of Peru?"}]
MISSING = 77


def with_openai(url: str) -> None:
    """The client of OpenAI."""
    import openai

    with openai.OpenAI(base_url=url, api_key="client") as client:
        assert client.models.retrieve("policy").id == "policy"
        whole = client.chat.completions.create(model="policy", messages=ASKED, max_tokens=20, n=2)
        assert len(whole.choices) == 2 and whole.usage.completion_tokens
        with client.chat.completions.stream(
            model="policy", messages=ASKED, max_completion_tokens=1000, seed=1, stop=["\n\n"]
        ) as stream:
            kinds = {event.type for event in stream}
        assert {"chunk", "content.delta"} <= kinds
        try:
            client.chat.completions.create(model="none", messages=ASKED)
        except openai.NotFoundError as exc:
            assert exc.code == "model_not_found"


def with_openai_async(url: str) -> None:
    """The asynchronous client of OpenAI."""
    import openai

    async def talk() -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="client") as client:
            several = [
                client.chat.completions.create(model="policy", messages=ASKED, max_tokens=9)
                for _ in range(4)
            ]
            assert len(await asyncio.gather(*several)) == 4
            stream = await client.chat.completions.create(
                model="policy",
                messages=ASKED,
                stream=True,
                max_tokens=9,
                stream_options={"include_usage": True},
            )
            chunks = [chunk async for chunk in stream]
            assert chunks[-1].usage.completion_tokens

    asyncio.run(talk())


def with_litellm(url: str) -> None:
    """LiteLLM, which names the kind of a service before its model."""
    import litellm

    common = {"model": "openai/policy", "api_base": url, "api_key": "client", "messages": ASKED}
    whole = litellm.completion(**common, max_tokens=9, n=2)
    assert len(whole.choices) == 2
    chunks = list(litellm.completion(**common, max_tokens=9, stream=True))
    assert litellm.stream_chunk_builder(chunks).choices[0].finish_reason
    try:
        litellm.completion(**common, logprobs=True)
    except litellm.BadRequestError as exc:
        assert "log-probabilities are not supported" in str(exc)
    long = [{"role": "user", "content": "word " * 1500}]
    try:
        litellm.completion(**{**common, "messages": long})
    except litellm.BadRequestError as exc:
        assert "shorten it" in str(exc)
        return
    raise AssertionError("a long message was taken")


def with_langchain(url: str) -> None:
    """LangChain, whole, streamed and in a batch."""
    from langchain_core.messages import AIMessage, HumanMessage
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="policy", base_url=url, api_key="client", max_tokens=9, seed=3)
    dialogue = [HumanMessage("hi"), AIMessage(""), HumanMessage("Capital of Peru?")]
    assert isinstance(model.invoke(dialogue).content, str)
    assert "".join(str(chunk.content) for chunk in model.stream(dialogue))
    assert len(model.batch([dialogue, dialogue])) == 2
    assert model.bind(stop=["i"]).invoke(dialogue).response_metadata["finish_reason"]


CLIENTS = {
    "openai": with_openai,
    "openai_async": with_openai_async,
    "litellm": with_litellm,
    "langchain": with_langchain,
}
NEEDS = {"openai_async": "openai", "langchain": "langchain_openai"}

if __name__ == "__main__":
    name, address = sys.argv[1:]
    if importlib.util.find_spec(NEEDS.get(name, name)) is None:
        raise SystemExit(MISSING)
    CLIENTS[name](address)
