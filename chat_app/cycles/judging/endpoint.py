"""One chat completion of an endpoint with OpenAI's shapes; waits and tries again where that helps.

Invariant: nothing but the text of a whole answer is ever returned. What cannot succeed (a wrong
key, an unknown model) ends the run at once; what may pass (429, 5xx, no answer in time) is tried
again, as long as the endpoint says or twice as long each time. Any other refusal may be about this
question alone, as a filter's, so the caller decides.
"""

import time
from collections.abc import Callable
from typing import Any

import httpx

from chat_app.errors import BusyError, InvalidRequestError, RefusedQuestionError, TooLongError
from feedback_store.records import Prompt

TRIES = 5
LONGEST_WAIT_S = 60.0
ANSWER_TOKENS = 512
HOPELESS = (401, 404)  # a wrong key; an unknown address or model


class Endpoint:
    """An endpoint and the model that is asked there.

    Args:
        url: The part before `/chat/completions`.
        model: As the endpoint calls it.
        key: Sent as a bearer token; None sends none.
        seconds: Longest time for one answer.
        per_minute: Most requests in a minute.
        wait: Sleeps for so many seconds.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        seconds: float = 60.0,
        per_minute: float = 600.0,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url, self.model, self.requests = url.rstrip("/"), model, 0
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(timeout=seconds, headers=headers, trust_env=False)
        self._wait, self._pause, self._last = wait, 60.0 / per_minute, 0.0

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def answer(self, messages: Prompt) -> str:
        """The model's answer.

        Raises:
            TooLongError: The messages are longer than the model can read.
            RefusedQuestionError: The endpoint refuses the question, or every one.
            InvalidRequestError: The endpoint refuses everything.
            BusyError: It gave no answer, however often it was asked.
        """
        fault = ""
        for attempt in range(TRIES):
            wait = min(LONGEST_WAIT_S, 2.0**attempt)
            try:
                answer = self._post(messages)
            except httpx.HTTPError as exc:
                fault = f"{type(exc).__name__}: {exc}"
            else:
                if answer.status_code == 200:
                    return _text(answer)
                fault = f"{answer.status_code}: {answer.text[:200]}"
                if "context_length_exceeded" in answer.text:
                    raise TooLongError(f"{self.model} cannot read so much ({fault})")
                if answer.status_code != 429 and answer.status_code < 500:
                    refused = InvalidRequestError
                    if answer.status_code not in HOPELESS:
                        refused = RefusedQuestionError
                    raise refused(
                        f"{self.url} refuses the request ({fault}); check the address, the model "
                        f"{self.model!r} and the key{self._hint(answer.status_code)}"
                    )
                wait = _asked_wait(answer, wait)
            if attempt < TRIES - 1:
                self._wait(wait)
        raise BusyError(f"{self.url} gave no answer in {TRIES} tries, the last: {fault}")

    def _hint(self, status: int) -> str:
        """What may be wrong with an address where nothing is."""
        if status not in (404, 405) or "v1" in self.url.split("/")[3:]:
            return ""
        return f"; did you mean {self.url}/v1?"

    def _post(self, messages: Prompt) -> httpx.Response:
        body: dict[str, Any] = {"model": self.model, "messages": list(messages), "temperature": 0}
        body |= {"max_tokens": ANSWER_TOKENS, "store": False}
        if (early := self._last + self._pause - time.monotonic()) > 0:
            self._wait(early)
        self._last, self.requests = time.monotonic(), self.requests + 1
        return self._client.post(f"{self.url}/chat/completions", json=body)


def _text(answer: httpx.Response) -> str:
    """The text of an answer; of one in another shape, or cut off, nothing, which is no verdict."""
    try:
        choice = answer.json()["choices"][0]
        cut = choice.get("finish_reason") == "length"
        return "" if cut else str(choice["message"]["content"] or "")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""


def _asked_wait(answer: httpx.Response, otherwise: float) -> float:
    try:
        return min(LONGEST_WAIT_S, max(0.0, float(answer.headers["retry-after"])))
    except (LookupError, ValueError):
        return otherwise
