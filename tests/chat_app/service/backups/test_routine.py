"""Backups that the server makes: when, verified how, and what is said if they fail."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock

from chat_app.errors import ChatAppError, RefusedError
from chat_app.service.backups import checking
from chat_app.service.backups.copying import require_room
from chat_app.service.backups.routine import BackupSchedule, run_routine, verified_backup
from chat_app.settings import Settings, load_settings
from feedback_store.sqlite.ids import iso_utc
from feedback_store.store import FeedbackStore
from tests.chat_app.serving import publish_copy


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data=tmp_path / "data", backups={"folder": tmp_path / "elsewhere"})


@pytest.fixture
def store(settings: Settings) -> Iterator[FeedbackStore]:
    with FeedbackStore(settings.database) as store:
        store.add_rater("ann", consent="1")
        conversation = store.add_conversation("ann").id
        asked = store.add_message(conversation, "user", "hello")
        store.add_message(conversation, "assistant", "hi", parent_id=asked.id)
        yield store


@pytest.fixture
def adapter(store: FeedbackStore, settings: Settings, tiny_adapters: Path) -> Path:
    """A published adapter of the service."""
    publish_copy(tiny_adapters / "policy-000001", settings.data, "policy-000001")
    store.register_adapter("policy-000001", kind="policy", state="published")
    store.note_signed(["policy-000001"], by="a test")
    return settings.adapters / "policy-000001"


def set_back(store: FeedbackStore, *, days: float) -> None:
    """Let the store, and the last verified backup, be older."""
    at = iso_utc(datetime.now(UTC) - timedelta(days=days))
    with store._file.write() as db:
        db.execute("UPDATE serving SET since = ?", [at])
        db.execute("UPDATE audit SET at = ? WHERE action = 'backup_verified'", [at])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_backup_is_verified_by_restoring_it(
    store: FeedbackStore, settings: Settings, adapter: Path, tmp_path: Path
) -> None:
    made = run_routine(store, settings, by="ann")
    assert made.counts["messages"] == 2
    written = json.loads((made.folder / checking.VERIFIED).read_text())
    assert written["counts"] == made.counts
    assert checking.restore(made.folder, tmp_path / "new") == made.counts
    assert (tmp_path / "new" / "adapters" / adapter.name / "manifest.json").is_file()
    (noted,) = store.audit_log(action="backup_verified")
    assert noted.detail == {"by": "ann", "path": str(made.folder)}
    assert [path.name for path in settings.backup_folder.glob(".auto*")] == []


def test_the_server_makes_one_when_the_last_is_a_day_old(
    store: FeedbackStore, settings: Settings
) -> None:
    schedule = BackupSchedule(store, settings)
    schedule.check()
    assert not settings.backup_folder.exists(), "a new store waits for a day"
    set_back(store, days=0.99)
    schedule.check()
    assert not settings.backup_folder.exists()
    set_back(store, days=1.01)
    schedule.check()
    schedule.check()
    assert len(names(settings.backup_folder)) == 1


def test_no_backups_are_made_where_none_are_wanted(store: FeedbackStore, tmp_path: Path) -> None:
    schedule = BackupSchedule(store, load_settings(data=tmp_path, backups={"every_hours": 0}))
    schedule.begin()
    assert not schedule._thread.is_alive()
    schedule.end()


def test_older_ones_go_and_are_no_longer_listed(store: FeedbackStore, settings: Settings) -> None:
    first = run_routine(store, settings, by="ann").folder
    older = first.with_name("auto-2020-01-01T00-00-00")
    first.rename(older)
    store.note_backup(str(older))
    mine = verified_backup(store, settings, settings.backup_folder / "mine", by="ann").folder
    once = settings.backups.model_copy(update={"keep_days": 1, "keep_weeks": 0})
    made = run_routine(store, settings.model_copy(update={"backups": once}), by="ann")
    assert made.removed == (older,) and names(settings.backup_folder) == [made.folder.name, "mine"]
    assert {copy.path for copy in store.copies()} >= {str(made.folder), str(mine)}
    assert str(older) not in {copy.path for copy in store.copies()}


@pytest.mark.parametrize("harm", ["damaged", "key"])
def test_what_could_not_be_restored_removes_nothing_and_is_an_alarm(
    store: FeedbackStore, settings: Settings, adapter: Path, harm: str
) -> None:
    good = run_routine(store, settings, by="ann").folder
    good.rename(good.with_name("auto-2020-01-01T00-00-00"))
    set_back(store, days=2)
    if harm == "damaged":
        (adapter / "adapter_model.safetensors").write_bytes(b"cut short")
    else:
        (settings.data / "secrets" / "adapter-key").write_text("another")
    before = store.last_verified_backup()
    schedule = BackupSchedule(store, settings)
    schedule.check()
    schedule.check()  # it waits
    (alarm,) = store.alarms()
    assert alarm.kind == "backup" and "policy-000001" in alarm.text and "\n" not in alarm.text
    assert store.last_verified_backup() == before
    kept = names(settings.backup_folder)
    assert len(kept) == 2 and kept[0] == "auto-2020-01-01T00-00-00"
    assert [checking.is_verified(settings.backup_folder / name) for name in kept] == [True, False]


def test_an_adapter_that_the_copy_lacks_is_noticed(
    store: FeedbackStore, settings: Settings, adapter: Path, tmp_path: Path
) -> None:
    folder = verified_backup(store, settings, tmp_path / "copy", by="ann").folder
    shutil.rmtree(folder / "adapters" / adapter.name)
    with pytest.raises(ChatAppError, match="lacks adapter policy-000001"):
        checking.verify(store, settings, folder, store.counts())


def test_a_copy_with_fewer_rows_than_the_store_is_noticed(
    store: FeedbackStore, settings: Settings, tmp_path: Path
) -> None:
    folder = verified_backup(store, settings, tmp_path / "copy", by="ann").folder
    store.add_message(store.add_conversation("ann").id, "user", "later")
    checking.verify(store, settings, folder, store.counts() | {"messages": 2})
    with pytest.raises(ChatAppError, match="has 2 messages, and the store has 3 to 3"):
        checking.verify(store, settings, folder, store.counts())


def test_two_at_once_are_one(store: FeedbackStore, settings: Settings) -> None:
    settings.backup_folder.mkdir()
    with (
        FileLock(settings.backup_folder / ".lock"),
        pytest.raises(RefusedError, match="another process"),
    ):
        run_routine(store, settings, by="ann")
    assert store.alarms() == []


def test_a_folder_that_cannot_be_used_is_an_alarm(store: FeedbackStore, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = load_settings(data=tmp_path / "data", backups={"folder": tmp_path / "file" / "x"})
    with pytest.raises(ChatAppError, match="cannot use the folder of backups"):
        run_routine(store, settings, by="ann")
    assert [alarm.kind for alarm in store.alarms()] == ["backup"]


def test_a_backup_that_would_fill_the_disk_is_refused(
    store: FeedbackStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_app.service.backups.copying.SPARE_BYTES", 2**62)
    with pytest.raises(RefusedError, match="make room, or name a folder on another disk"):
        require_room(settings, settings.backup_folder / "new" / "deep")
