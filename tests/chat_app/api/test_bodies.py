"""What every request passes, in front of the routes and the pages."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from chat_app.identity import Identity
from chat_app.server import create_app
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        service = fake_service(store, FakeEngine(), tmp_path)
        yield TestClient(
            create_app(service, Identity(tmp_path / "secrets"), pages=False),
            base_url="http://127.0.0.1",
            headers={"Authorization": "Bearer alice"},
        )


def test_a_large_body_is_refused_before_it_is_parsed(client: TestClient) -> None:
    # in this process: a real client may lose the answer when the server stops reading
    said = client.post("/v1/chat/completions", content=b"x" * 300_000)
    unsaid = client.post("/v1/chat/completions", content=iter([b"x" * 100_000] * 3))
    page = client.post("/nowhere", content=b"x" * 140_000)
    for answer, limit in ((said, 262_144), (unsaid, 262_144), (page, 131_072)):
        error = answer.json()["error"]
        assert answer.status_code == 413 and error["code"] == "too_large"
        assert error["message"] == f"the request body is larger than {limit} bytes; send less"
    assert client.post("/v1/chat/completions", content=b"x" * 200_000).status_code == 400
