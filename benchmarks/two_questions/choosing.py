"""An endpoint with OpenAI's shapes whose model can say nothing but a judge's verdict.

    python -m benchmarks.two_questions.choosing MODEL --port 7870   # as `serve --model` takes it

A small model often answers the question of a judge with no verdict at all. Here its answer is the
likelier of [[A]], [[B]] and [[C]], as where an endpoint restricts what may be said. So there is
always a verdict; whether it means something is what asking in both orders tells. The beginning of
a conversation that came before is not read again.
"""

import argparse
import json
import threading
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from rlhf_core.config import ReplySettings
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.records import ChatMessage, Prompt

VERDICTS = ("[[A]]", "[[B]]", "[[C]]")
PROMPT_TOKENS = 4096
MOST_KNOWN = 4  # beginnings


class Chooser:
    """A model that chooses one of the verdicts.

    Raises:
        ValueError: The tokenizer does not tell the verdicts apart by one token.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        rows = [base.tokenizer(text, add_special_tokens=False).input_ids for text in VERDICTS]
        differ = next((k for k, ids in enumerate(zip(*rows, strict=False)) if len({*ids}) > 1), 0)
        self.before, self.choices = rows[0][:differ], [row[differ] for row in rows]
        if len({*self.choices}) < len(VERDICTS):
            raise ValueError(f"the tokenizer begins two of {VERDICTS} with the same tokens")
        self._read: dict[tuple[int, ...], Any] = {}  # by its tokens, what was made of a beginning

    @torch.no_grad()
    def choose(self, messages: Prompt) -> str:
        """The verdict that the model finds likeliest after these messages."""
        ids = [*self.base.chat.encode_prompt(messages), *self.before]
        head = self._head(messages, ids)
        with self.base.using(None) as model:
            if head and head not in self._read:
                if len(self._read) == MOST_KNOWN:
                    self._read.clear()
                found = model(input_ids=torch.tensor([head]), use_cache=True)
                self._read[head] = found.past_key_values
            known = deepcopy(self._read.get(head))  # the model adds to it
            rest = torch.tensor([ids[len(head) :]])
            logits = model(input_ids=rest, past_key_values=known, use_cache=True).logits[0, -1]
        return VERDICTS[int(logits[self.choices].argmax())]

    def _head(self, messages: Prompt, ids: list[int]) -> tuple[int, ...]:
        """The tokens that another question with the same system message begins with, too."""
        if messages[0]["role"] != "system":
            return ()
        other = [messages[0], ChatMessage(role="user", content="Yes")]
        pairs = zip(ids[:-1], self.base.chat.encode_prompt(other), strict=False)
        return tuple(mine for mine, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def serve(chooser: Chooser, port: int) -> ThreadingHTTPServer:
    """A server; `serve_forever` starts it. Connections are many, answers one after another."""
    turn = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Answer a chat completion."""
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with turn:
                verdict = chooser.choose(body["messages"])
            message = {"role": "assistant", "content": verdict}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = json.dumps({"model": body["model"], "choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main() -> None:
    """Load the model and serve."""
    cli = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    cli.add_argument("model")
    cli.add_argument("--port", type=int, default=7870)
    cli.add_argument("--cache", type=Path, default=None, help="folder for a converted model")
    options = cli.parse_args()
    base = load_base(
        options.model,
        quantization="none",
        device="cpu",
        reply=ReplySettings(prompt_tokens=PROMPT_TOKENS),
        cache=options.cache,
    )
    server = serve(Chooser(base), options.port)
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
