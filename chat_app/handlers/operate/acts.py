"""What an operator does: run or cancel a cycle, serve, try, roll back.

Each act returns one sentence about what it did. The rules are in `chat_app.service.promotion`.
"""

from chat_app.handlers.operate.guarded import require
from chat_app.identity import OPERATOR
from chat_app.service.chat import ChatService
from feedback_store.errors import Sentence, say


class Acts:
    """What the operator can do; `allowed` is the door's answer, and `by` says who asks."""

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def run_cycle(self, *, allowed: bool, by: str = OPERATOR) -> Sentence:
        """Start a cycle in a separate process, so that no chat waits for it."""
        require(allowed)
        pid = self._service.start_cycle(by=by)
        return say("A cycle is starting as process {id}.", id=str(pid))

    def cancel_cycle(self, *, allowed: bool, by: str = OPERATOR) -> Sentence:
        """Cancel the running cycle; serving is as it was before."""
        require(allowed)
        cycle = self._service.cancel_cycle(by=by)
        return say("Cycle {id} is cancelled. The served version is as before.", id=cycle.id)

    def promote(
        self, name: str, *, allowed: bool, force: bool = False, by: str = OPERATOR
    ) -> Sentence:
        """Serve another published adapter, or with ``force`` a rejected one."""
        require(allowed)
        serving = self._service.promote(name, force=force, by=by)
        now = self._version(name)
        if self._service.store.open_trial() is None or serving.previous is None:
            return say("New replies come from {version} now.", version=now)
        return say(
            "New replies come from {version} now, and people compare it with {other}.",
            version=now,
            other=self._version(serving.previous),
        )

    def canary(
        self, name: str, *, allowed: bool, force: bool = False, by: str = OPERATOR
    ) -> Sentence:
        """Let people compare an adapter with the served one before it is served."""
        require(allowed)
        trial = self._service.canary(name, force=force, by=by)
        return say(
            "People compare {version} with {other} now. It is served once they find it better.",
            version=self._version(trial.adapter),
            other=self._version(trial.other),
        )

    def stop_trial(self, *, allowed: bool, by: str = OPERATOR) -> Sentence:
        """Let people compare adapters no more."""
        require(allowed)
        trial = self._service.stop_trial(by=by)
        return say(
            "People do not compare {version} with {other} any more.",
            version=self._version(trial.adapter),
            other=self._version(trial.other),
        )

    def roll_back(self, *, allowed: bool, by: str = OPERATOR) -> Sentence:
        """Serve the adapter that was served before, and say which could not be, and why.

        No guard begins, also if this serves the newer one again.
        """
        require(allowed)
        done = self._service.rollback(by=by)
        now, before = done.serving.adapter, done.serving.previous
        said = say(
            "New replies come from {version} again instead of {other}. People do not compare the "
            "two: a rollback starts no guard.",
            version=self._version(now),
            other=self._version(before or now),
        )
        for name, reason in done.skipped.items():
            said = say(
                "{said} {name} was skipped: {reason}.",
                said=said,
                name=self._version(name),
                reason=reason,
            )
        return said

    def _version(self, adapter: str) -> str:
        """How people call an adapter, within a sentence; one never served has only its name."""
        number = self._service.store.versions().get(adapter)
        return adapter if number is None else say("version {number}", number=number)
