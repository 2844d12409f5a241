"""A store on disk, and a small world of people chatting in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback_store import CandidateReply, FeedbackStore, Message


class Chat:
    """One consenting rater and what they do, with idempotency keys made by counting."""

    def __init__(self, store: FeedbackStore, rater_id: str = "ann") -> None:
        self.store = store
        self.rater = store.add_rater(rater_id, consent="v1").id
        self.conversation = store.add_conversation(self.rater).id
        self._keys = 0

    def key(self) -> str:
        self._keys += 1
        return f"key-{self._keys}"

    def ask(self, text: str) -> Message:
        return self.store.add_message(self.conversation, "user", text)

    def reply(self, prompt: Message, text: str) -> Message:
        return self.store.add_message(
            self.conversation, "assistant", text, parent_id=prompt.id, adapter="policy-000000"
        )

    def shown(self, prompt: str, *texts: str) -> str:
        replies = [CandidateReply(text, adapter="policy-000000") for text in texts]
        asked = self.ask(prompt)
        return self.store.add_candidates(asked.id, replies, rater_id=self.rater)[0]

    def thumb(self, message: Message, value: int) -> None:
        self.store.add_thumb(message.id, self.rater, value, idempotency_key=self.key())

    def choose(self, candidates_id: str, choice: str) -> None:
        self.store.add_choice(candidates_id, self.rater, choice, idempotency_key=self.key())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "feedback.db"


@pytest.fixture
def store(path: Path) -> Iterator[FeedbackStore]:
    with FeedbackStore(path) as opened:
        yield opened


@pytest.fixture
def ann(store: FeedbackStore) -> Chat:
    return Chat(store)


@pytest.fixture
def bob(store: FeedbackStore) -> Chat:
    return Chat(store, "bob")
