"""Promotions, rollbacks and repairs on a running service with a real model."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_app.errors import RefusedError
from feedback_store.records import BASE_ADAPTER
from feedback_store.store import FeedbackStore
from tests.chat_app.serving import Running, publish_copy, running, until

ONE, TWO, THREE = (f"policy-{number:06d}" for number in (1, 2, 3))


@pytest.fixture
def fresh(tiny_model: Path, tiny_adapters: Path, tmp_path: Path) -> Iterator[Running]:
    """A service with three published adapters that serves the base."""
    with running(tmp_path / "data", tiny_model) as service:
        for name, original in ((ONE, ONE), (TWO, TWO), (THREE, ONE)):
            publish_copy(tiny_adapters / original, tmp_path / "data", name)
            service.service.store.register_adapter(name, kind="policy", state="published")
        yield service


def weights(fresh: Running, name: str) -> Path:
    return fresh.service.settings.adapters / name / "adapter_model.safetensors"


def damage(fresh: Running, name: str) -> None:
    """Change the last weights of an adapter, and keep the file as it was beside the data."""
    file = weights(fresh, name)
    shutil.copy2(file, fresh.service.settings.data / f"{name}.whole")
    file.write_bytes(file.read_bytes()[:-8] + b"\0" * 8)


def repair(fresh: Running, name: str) -> None:
    shutil.copy2(fresh.service.settings.data / f"{name}.whole", weights(fresh, name))


def promote(fresh: Running, name: str) -> None:
    """Promote an adapter, and wait until new replies come from it."""
    fresh.service.promote(name)
    until(lambda: fresh.service.adapter == name)


def promote_by_force_of_a_row(fresh: Running, name: str) -> None:
    """As a process would that does not look at the files; wait until the service fell back."""
    fresh.service.store.serve(name, by="another process")
    until(lambda: fresh.service.store.serving().adapter != name)


def test_a_failed_promotion_leaves_the_way_back_as_it_was(fresh: Running) -> None:
    promote(fresh, ONE)
    promote(fresh, TWO)
    damage(fresh, THREE)
    promote_by_force_of_a_row(fresh, THREE)
    serving = fresh.service.store.serving()
    assert (serving.adapter, serving.previous) == (TWO, ONE)
    done = fresh.service.rollback()
    assert (done.serving.adapter, done.skipped) == (ONE, {})
    until(lambda: fresh.service.adapter == ONE)


def test_a_repaired_adapter_can_be_promoted_and_is_fallen_back_to(fresh: Running) -> None:
    damage(fresh, ONE)
    promote_by_force_of_a_row(fresh, ONE)
    assert fresh.service.store.serving().adapter == BASE_ADAPTER
    repair(fresh, ONE)
    promote(fresh, ONE)
    damage(fresh, TWO)
    promote_by_force_of_a_row(fresh, TWO)
    assert fresh.service.store.serving().adapter == ONE == fresh.service.adapter


def test_an_adapter_that_was_damaged_at_the_start_is_tried_again_once_it_is_repaired(
    tiny_model: Path, tiny_adapters: Path, tmp_path: Path
) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        for name in (ONE, TWO):
            publish_copy(tiny_adapters / name, tmp_path, name)
            store.register_adapter(name, kind="policy", state="published")
        store.serve(ONE, by="operator")
    folder = tmp_path / "adapters" / ONE
    folder.rename(tmp_path / "kept")
    with running(tmp_path, tiny_model) as service:
        assert service.service.store.serving().adapter == BASE_ADAPTER
        (tmp_path / "kept").rename(folder)
        promote(service, ONE)
        damage(service, TWO)
        promote_by_force_of_a_row(service, TWO)
        assert service.service.store.serving().adapter == ONE == service.service.adapter


def test_a_damaged_adapter_is_not_promoted_and_nothing_changes(fresh: Running) -> None:
    promote(fresh, ONE)
    before = fresh.service.store.serving()
    damage(fresh, TWO)
    with pytest.raises(RefusedError, match="does not match its checksum"):
        fresh.service.promote(TWO)
    assert fresh.service.store.serving() == before


def test_an_adapter_of_another_base_is_not_promoted(fresh: Running, tiny_adapters: Path) -> None:
    name = "policy-000004"
    data = fresh.service.settings.data
    publish_copy(tiny_adapters / ONE, data, name, base="llama-of-another-time")
    fresh.service.store.register_adapter(name, kind="policy", state="published")
    with pytest.raises(RefusedError, match="was trained on base llama-of-another-time"):
        fresh.service.promote(name)
    assert fresh.service.store.serving().adapter == BASE_ADAPTER


def test_a_rollback_skips_what_does_not_verify_and_says_so(fresh: Running) -> None:
    for name in (ONE, TWO, THREE):
        promote(fresh, name)
    damage(fresh, TWO)
    done = fresh.service.rollback()
    assert (done.serving.adapter, done.serving.previous) == (ONE, THREE)
    assert list(done.skipped) == [TWO] and "checksum" in done.skipped[TWO]
    until(lambda: fresh.service.adapter == ONE)


def test_a_rollback_ends_at_the_base_if_no_adapter_verifies(fresh: Running) -> None:
    for name in (ONE, TWO, THREE):
        promote(fresh, name)
    damage(fresh, ONE)
    damage(fresh, TWO)
    done = fresh.service.rollback()
    assert done.serving.adapter == BASE_ADAPTER and list(done.skipped) == [TWO, ONE]


def test_a_rollback_skips_an_adapter_that_was_rejected_meanwhile(fresh: Running) -> None:
    for name in (ONE, TWO):
        promote(fresh, name)
    fresh.service.store.set_adapter_state(ONE, "rejected")
    done = fresh.service.rollback()
    assert done.serving.adapter == BASE_ADAPTER and "was rejected" in done.skipped[ONE]


def test_a_rollback_to_nothing_sound_is_refused_and_changes_nothing(fresh: Running) -> None:
    promote(fresh, ONE)
    promote(fresh, BASE_ADAPTER)
    damage(fresh, ONE)
    before = fresh.service.store.serving()
    with pytest.raises(RefusedError, match=r"a rollback is not possible: .*checksum"):
        fresh.service.rollback()
    assert fresh.service.store.serving() == before


def test_rolling_back_twice_is_where_one_was(fresh: Running) -> None:
    promote(fresh, ONE)
    promote(fresh, TWO)
    assert fresh.service.rollback().serving.adapter == ONE
    assert fresh.service.rollback().serving.adapter == TWO
