"""A small program that answers as an endpoint with OpenAI's shapes does, in one scripted way."""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str, str], str]  # the reply shown as A, and that shown as B
_REPLY = r"<reply {0} \w+>\n(.*?)\n</reply {0} \w+>"


def longer(a: str, b: str) -> str:
    return "[[A]]" if len(a) > len(b) else "[[B]]" if len(b) > len(a) else "[[C]]"


def flattered(a: str, b: str) -> str:
    praise = [("brilliant" in text) for text in (a, b)]
    return {(True, False): "[[A]]", (False, True): "[[B]]"}.get((praise[0], praise[1]), "[[C]]")


WAYS: dict[str, Answer] = {
    "left": lambda a, b: "I prefer the first. [[A]]",
    "longer": longer,
    "flattered": flattered,
    "nonsense": lambda a, b: "Both [[A]] and [[B]] have merits.",
}


class Scripted:
    """What the endpoint was asked.

    `faults` are statuses that come before answers; `poison` is a text and the status that every
    question with it gets, with `refusal`; `finish` is why answers end.
    """

    def __init__(self, way: str, faults: list[int]) -> None:
        self.answer, self.faults, self.url = WAYS[way], faults, ""
        self.asked: Counter[str] = Counter()
        self.poison: tuple[str, int] | None = None
        self.refusal = "not this one"
        self.finish = "stop"
        self.bodies: list[dict[str, Any]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.most: int | None = None  # answers, then it holds all further ones


@contextmanager
def scripted(way: str, faults: list[int] | None = None) -> Iterator[Scripted]:
    """The endpoint, on a free port of this machine."""
    script = Scripted(way, list(faults or ()))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if script.most is not None and len(script.bodies) >= script.most:
                script.hold.clear()
                script.hold.wait(60)
            if script.faults:
                self._send(script.faults.pop(0), {"error": {"message": "not now"}})
                return
            text = body["messages"][-1]["content"]
            if script.poison is not None and script.poison[0] in text:
                self._send(script.poison[1], {"error": {"message": script.refusal}})
                return
            shown = [re.search(_REPLY.format(name), text, re.S)[1] for name in "AB"]  # type: ignore[index]
            script.bodies.append(body)
            script.asked["\n".join(shown)] += 1
            said = script.answer(shown[0], shown[1])
            message = {"role": "assistant", "content": said}
            self._send(200, {"choices": [{"message": message, "finish_reason": script.finish}]})

        def _send(self, status: int, answer: dict[str, Any]) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        script.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()
