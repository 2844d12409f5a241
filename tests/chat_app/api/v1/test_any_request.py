"""Whatever is sent, nothing is an error of ours, and nothing of a refused request is stored."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chat_app.identity import Identity
from chat_app.server import create_app
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.serving import UNLIMITED

ROUTE = "/v1/chat/completions"
HALF = "half \ud800 of a character"
numbers = st.sampled_from([0, 1, -1, 2, 9, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")])
texts = st.sampled_from(["", " ", "hello", "x" * 9000, HALF, "\x00", "\u202e", "### Task:"])
scalars = st.none() | st.booleans() | numbers | texts
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "text", "refusal", "image_url"])},
    optional={"text": texts, "refusal": scalars, "image_url": anything},
)
contents = st.none() | texts | st.lists(parts, max_size=3)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": contents},
    optional={"tool_calls": st.sampled_from([None, []]), "refusal": st.none() | texts},
)
strange = st.fixed_dictionaries({"role": texts | st.just("tool")}, optional={"content": anything})
question = st.just({"role": "user", "content": "hello"})
dialogues = st.builds(
    lambda above, last: [*above, last], st.lists(messages | strange, max_size=3), question
)
likely: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["policy", "policy-000000"]),
    "stream": st.sampled_from([True, False, None]),
    "stream_options": st.sampled_from([None, {}, {"include_usage": True}]),
    "n": st.sampled_from([None, 1, 2, 9]),
    "max_tokens": st.sampled_from([None, -1, 1, 5000, 10**30]),
    "max_completion_tokens": st.sampled_from([None, -1, 1]),
    "temperature": st.sampled_from([None, 0, 0.5, 2]),
    "seed": st.sampled_from([None, 0, -1, 10**30]),
    "stop": st.sampled_from([None, "", "o", ["one", "", "two"]]),
    "store": st.booleans(),
    "metadata": anything,
    "tools": st.sampled_from([None, []]),
}
names = (*likely, "top_p", "user", "retry_of", "tool_choice", "response_format", "logprobs")
wild = st.dictionaries(st.sampled_from(names), anything, max_size=1)
bodies = st.builds(
    lambda said, fields, one: {"messages": said, **fields, **one},
    st.one_of(question.map(lambda one: [one]), dialogues, dialogues, anything),
    st.fixed_dictionaries({}, optional=likely),
    wild,
)
KNOWN = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("any")
    with FeedbackStore(folder / "feedback.db") as store:
        service = fake_service(store, FakeEngine(), folder, rates=UNLIMITED)
        app = create_app(service, Identity(folder / "secrets"), pages=False)
        headers = {"authorization": "Bearer alice", "content-type": "application/json"}
        client = TestClient(app, base_url="http://127.0.0.1", headers=headers)
        known = client.post(ROUTE, json=KNOWN)
        assert known.status_code == 200, "the rater is known from now on"
        yield client


@pytest.mark.slow
@settings(
    max_examples=1000,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(bodies)
def test_no_request_is_an_error_of_ours_and_a_refused_one_leaves_no_row(
    client: TestClient, body: dict[str, Any]
) -> None:
    store = client.app.state.service.store  # type: ignore[attr-defined]
    before = store.counts()
    answer = client.post(ROUTE, content=json.dumps(body))
    assert answer.status_code in (200, 400, 404), answer.text
    if answer.status_code == 200:
        assert '"error"' not in answer.text
    else:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert store.counts() == before
