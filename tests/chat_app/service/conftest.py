"""A data directory and its store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_app.settings import Settings, load_settings
from feedback_store.store import FeedbackStore


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data=tmp_path)


@pytest.fixture
def store(settings: Settings) -> Iterator[FeedbackStore]:
    with FeedbackStore(settings.database) as store:
        yield store
