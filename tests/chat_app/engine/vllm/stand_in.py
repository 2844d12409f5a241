"""A server with vLLM's routes and answers, as vLLM 0.32 gives them, but without a model.

Each reply says the name of its adapter, a letter a token. A test may have it refuse, be slow, break
off or die; one that is started again has lost its adapters.
"""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response, StreamingResponse

LOGPROB = -1.0  # of each token


class StandIn:
    """One such server on a port of this machine.

    Args:
        letters: Ids of tokens by letter, as the model's tokenizer has them.

    Attributes:
        adapters: Names of the loaded ones, with their paths.
        asked: Bodies of the requests for replies.
        refuses: Answers to loads, and to requests for replies, with an error.
        seconds: Between two tokens.
        breaks_after: Tokens after which a reply breaks off.
        hangs: Whether its engine has died and its routes have not.
        window: Tokens of a prompt and a reply.
        runtime_lora: Whether there are routes for adapters.
    """

    def __init__(self, letters: dict[str, int]) -> None:
        self._letters = letters
        self.adapters: dict[str, str] = {}
        self.calls: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.refuses, self.runtime_lora = False, True
        self.seconds, self.window = 0.0, 512
        self.breaks_after: int | None = None
        self.hangs = False
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Begin to answer, with no adapter."""
        self.adapters, self._dead = {}, False
        config = uvicorn.Config(
            self._app(),
            port=self._port,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=0,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the stand-in could not start"

    def die(self) -> None:
        """End at once, in the middle of whatever it writes."""
        self._dead = self._server.should_exit = self._server.force_exit = True
        self._thread.join(timeout=10)

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/health")
        async def health() -> Response:
            return _error(503, "it hangs") if self.hangs else Response()

        @app.get("/v1/models")
        async def models() -> dict[str, Any]:
            base = {"id": "base", "parent": None, "max_model_len": self.window}
            loaded = [{"id": name, "parent": "base"} for name in self.adapters]
            return {"object": "list", "data": [base, *loaded]}

        if self.runtime_lora:
            app.post("/v1/load_lora_adapter")(self._load)
            app.post("/v1/unload_lora_adapter")(self._unload)
        app.post("/v1/completions", response_model=None)(self._complete)
        return app

    async def _load(self, body: dict[str, Any]) -> Response:
        self.calls.append(f"load {body['lora_name']}")
        if self.refuses:
            return _error(500, "Call to add_lora method failed: LoRA rank 32 is greater than 16")
        if body["lora_name"] in self.adapters:
            return _error(400, "The lora adapter has already been loaded.")
        self.adapters[body["lora_name"]] = body["lora_path"]
        return Response("Success")

    async def _unload(self, body: dict[str, Any]) -> Response:
        self.calls.append(f"unload {body['lora_name']}")
        if self.adapters.pop(body["lora_name"], None) is None:
            return _error(404, "The lora adapter cannot be found.")
        return Response("Success")

    async def _complete(self, body: dict[str, Any]) -> Response:
        if body["model"] not in ("base", *self.adapters):
            return _error(404, f"The model `{body['model']}` does not exist.")
        if self.refuses:
            return _error(400, "this model cannot do that")
        if len(body["prompt"]) + body["max_tokens"] > self.window:
            return _error(400, f"the maximum context length is {self.window} tokens")
        self.asked.append(body)
        if not body.get("stream"):
            return await self._whole(body)
        return StreamingResponse(self._tokens(body), media_type="text/event-stream")

    def _ids(self, body: dict[str, Any]) -> list[int]:
        ids = [self._letters[letter] for letter in body["model"]]
        return [*ids, *body["stop_token_ids"][:1]][: body["max_tokens"]]

    async def _whole(self, body: dict[str, Any]) -> Response:
        ids = self._ids(body)
        await asyncio.sleep(self.seconds * len(ids))
        if self._dead or self.breaks_after is not None:
            return _error(500, "the engine is dead, as it was told")
        reason = "stop" if ids[-1] in body["stop_token_ids"] else "length"
        logprobs = {"token_logprobs": [LOGPROB] * len(ids)}
        choice = {"token_ids": ids, "finish_reason": reason, "logprobs": logprobs}
        return JSONResponse({"choices": [choice]})

    async def _tokens(self, body: dict[str, Any]) -> AsyncIterator[str]:
        ids = self._ids(body)
        for count, token in enumerate(ids, start=1):
            await asyncio.sleep(self.seconds)
            if self._dead or count - 1 == self.breaks_after:
                raise ConnectionResetError("the stand-in breaks off, as it was told")
            last = count == len(ids)
            reason = "stop" if token in body["stop_token_ids"] else "length"
            choice = {"token_ids": [token], "finish_reason": reason if last else None}
            yield f"data: {json.dumps({'choices': [choice]})}\n\n"
        yield "data: [DONE]\n\n"


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "code": status}}, status)


@contextmanager
def standing_in(letters: dict[str, int], count: int) -> Iterator[list[StandIn]]:
    """So many servers until the block ends."""
    servers = [StandIn(letters) for _ in range(count)]
    try:
        yield servers
    finally:
        for server in servers:
            server.die()
