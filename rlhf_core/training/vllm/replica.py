"""One server of vLLM, over its HTTP routes.

A prompt goes there as token ids and a reply comes back as token ids, so nothing depends on the
server's own template or way of writing text. Invariant: every failure is one of two errors. Either
the server is lost (`ReplicaLostError`): it does not answer, or answers as one that is broken. Or it
is well and refuses (`AdapterError` for an adapter, `InvalidInputError` for a reply). What follows
from that is not decided here.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from rlhf_core.errors import AdapterError, InvalidInputError, ReplicaLostError, RLHFError
from rlhf_core.records import Sampling

LOOK_S, LOAD_S = 5.0, 30.0  # longest answers about itself, and about an adapter
CONNECT_S = 2.0  # longest connecting


@dataclass(frozen=True, slots=True)
class Decoded:
    """New tokens of a reply; the last has vLLM's reason why it ended.

    Attributes:
        ids: The tokens.
        finish_reason: "stop" or "length"; None as long as the reply goes on.
        logprobs: Of each token, if the reply is whole; a NaN is None.
    """

    ids: Sequence[int]
    finish_reason: str | None
    logprobs: Sequence[float | None] = ()


class Replica:
    """A server of vLLM, and what is known of it.

    Args:
        url: Its address, without a path.
        http: Has the headers of every request.
        window: Tokens of a prompt and its reply for which it must have room.

    Attributes:
        rows: Replies that it decodes for us.
        fault: Why it gets no requests; empty if it gets some.
    """

    def __init__(self, url: str, http: httpx.AsyncClient, *, window: int) -> None:
        self.url, self.rows, self.fault = url, 0, "it was not asked yet"
        self._http, self._window = http, window
        self._base = ""  # the name that it gives the base
        self._replies = f"{url}/v1/completions"

    async def look(self) -> set[str]:
        """Ask whether it is well; returns the names of the adapters that it holds.

        Raises:
            ReplicaLostError: It is not, or it was started so that it cannot serve.
        """
        self._require_success(await self._ask("GET", "/health", seconds=LOOK_S))
        said = await self._ask("GET", "/v1/models", seconds=LOOK_S)
        self._require_success(said)
        try:
            models: list[Any] = said.json()["data"]
            bases = [model for model in models if model["parent"] is None]
            self._base, room = bases[0]["id"], int(bases[0]["max_model_len"])
            held = {model["id"] for model in models if model["parent"] is not None}
        except (ValueError, LookupError, TypeError) as exc:
            raise ReplicaLostError(f"{self.url} does not list models as vLLM does") from exc
        if room < self._window:
            raise ReplicaLostError(
                f"{self.url} has room for {room} tokens, and reply.prompt_tokens with reply.tokens "
                f"takes {self._window}; start it with --max-model-len {self._window} or more"
            )
        return held

    async def load(self, name: str, path: Path) -> None:
        """Load an adapter from a path that the server can read; if it holds it, nothing is done.

        Raises:
            AdapterError: The server is well and refuses it.
            ReplicaLostError: It is not well.
        """
        call = {"lora_name": name, "lora_path": str(path)}
        answer = await self._ask("POST", "/v1/load_lora_adapter", seconds=LOAD_S, body=call)
        if answer.status_code == 200 or name in await self.look():
            return
        # 500 is its answer to a damaged adapter; a server that is broken was found by the look
        raise AdapterError(
            f"adapter {path} was not loaded: {self._told(answer)}; the server must be able to read "
            "this path, and --max-lora-rank must not be less than cycle.lora.rank"
        )

    async def unload(self, name: str) -> None:
        """Drop an adapter, if the server holds it; replies in flight go on with it.

        Raises:
            ReplicaLostError: It is not well, or has no routes for adapters.
        """
        call = {"lora_name": name}
        answer = await self._ask("POST", "/v1/unload_lora_adapter", seconds=LOAD_S, body=call)
        if answer.status_code != 404:
            self._require_success(answer)
        elif not _reason(answer):  # the route itself is missing
            raise ReplicaLostError(
                f"{self.url} loads no adapters; start it with --enable-lora and "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
            )

    async def decode(
        self,
        adapter: str,
        ids: Sequence[int],
        sampling: Sampling,
        *,
        seed: int,
        ends: Sequence[int],
    ) -> AsyncGenerator[Decoded, None]:
        """Stream the tokens of a reply; closing the iterator makes the server stop.

        Args:
            adapter: Its name on the server; empty for the base.
            ids: Tokens of the prompt.
            sampling: How; nothing of the model's generation config changes it.
            seed: Of the sampling.
            ends: Tokens that end the reply; the last of the ids is one if it ended with "stop".

        Raises:
            ReplicaLostError: The reply was lost.
            InvalidInputError: The server refuses it.
        """
        call = self._call(adapter, ids, sampling, seed=seed, ends=ends) | {"stream": True}
        timeout = httpx.Timeout(None, connect=CONNECT_S)  # a reply has its own time
        try:
            async with self._http.stream("POST", self._replies, json=call, timeout=timeout) as sent:
                if sent.status_code != 200:
                    await sent.aread()
                    self._require_success(sent)
                async for line in sent.aiter_lines():
                    if line.startswith("data: {"):
                        yield self._decoded(line.removeprefix("data: "))
        except httpx.HTTPError as exc:
            raise self._lost(exc) from exc

    async def decode_whole(
        self,
        adapter: str,
        ids: Sequence[int],
        sampling: Sampling,
        *,
        seed: int,
        ends: Sequence[int],
    ) -> Decoded:
        """A whole reply with the log-probabilities of its tokens; else as `decode`."""
        call = self._call(adapter, ids, sampling, seed=seed, ends=ends) | {"logprobs": 0}
        answer = await self._ask("POST", "/v1/completions", seconds=None, body=call)
        self._require_success(answer)
        return self._decoded(answer.text)

    def _call(
        self,
        adapter: str,
        ids: Sequence[int],
        sampling: Sampling,
        *,
        seed: int,
        ends: Sequence[int],
    ) -> dict[str, Any]:
        return {
            "model": adapter or self._base,
            "prompt": list(ids),
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "frequency_penalty": 0.0,
            "presence_penalty": 0.0,
            "seed": seed,
            "stop_token_ids": list(ends),
            "return_token_ids": True,
        }

    def _decoded(self, text: str) -> Decoded:
        try:
            choice = json.loads(text)["choices"][0]
            told = (choice.get("logprobs") or {}).get("token_logprobs") or ()
            found = Decoded(choice["token_ids"] or (), choice["finish_reason"], told)
        except (ValueError, LookupError, TypeError) as exc:
            raise ReplicaLostError(
                f"{self.url} sent no token ids but {text[:200]!r}; use a vLLM that knows "
                "return_token_ids"
            ) from exc
        if found.finish_reason not in (None, "stop", "length"):
            raise ReplicaLostError(f"{self.url} gave a reply up: {found.finish_reason}")
        return found

    async def _ask(
        self, method: str, path: str, *, seconds: float | None, body: Any = None
    ) -> httpx.Response:
        timeout = httpx.Timeout(seconds, connect=CONNECT_S)
        try:
            return await self._http.request(method, f"{self.url}{path}", json=body, timeout=timeout)
        except httpx.HTTPError as exc:
            raise self._lost(exc) from exc

    def _require_success(self, answer: httpx.Response) -> None:
        """Refuse an answer of a broken server, or of one that refuses.

        404 means that it does not know an adapter that it held: it was started anew.
        """
        status = answer.status_code
        if status >= 500 or status in (401, 403, 404, 429):
            raise ReplicaLostError(self._told(answer))
        if status != 200:
            raise InvalidInputError(self._told(answer))

    def _told(self, answer: httpx.Response) -> str:
        reason = _reason(answer) or answer.text or answer.reason_phrase
        return f"{self.url} answers {answer.status_code}: {' '.join(reason.split())[:300]}"

    def _lost(self, exc: httpx.HTTPError) -> ReplicaLostError:
        return ReplicaLostError(f"{self.url} does not answer: {str(exc) or type(exc).__name__}")


@dataclass(frozen=True, slots=True)
class Servers:
    """Where servers of vLLM are.

    Attributes:
        urls: Their addresses, without a path.
        key: What they were given as `--api-key`.
    """

    urls: tuple[str, ...]
    key: str | None = None

    def faults(self, *, window: int) -> dict[str, str]:
        """Ask each server whether a cycle could use it.

        Args:
            window: Tokens of a prompt and its reply.

        Returns:
            Why not, by address; empty where it could.
        """

        async def fault(replica: Replica) -> str:
            try:
                await replica.look()
                await replica.unload("none")  # is there a route for adapters?
            except RLHFError as exc:
                return str(exc)
            return ""

        async def ask() -> list[str]:
            async with self.client() as http:
                every = [Replica(url, http, window=window) for url in self.urls]
                return await asyncio.gather(*map(fault, every))

        return dict(zip(self.urls, asyncio.run(ask()), strict=True))

    def client(self) -> httpx.AsyncClient:
        """What speaks to them; no proxy of the environment stands between."""
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        room = httpx.Limits(max_connections=None)  # whoever asks limits how much
        return httpx.AsyncClient(headers=headers, limits=room, trust_env=False)


def _reason(answer: httpx.Response) -> str:
    """The words of vLLM for an error; empty if the answer is not one of its own."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return ""
