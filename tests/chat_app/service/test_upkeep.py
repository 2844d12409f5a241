"""What the server erases by itself: who had to wait for a cycle, and what people deleted."""

import logging
import os
from datetime import UTC, datetime, timedelta

import pytest

from chat_app.cycles.alarms import AlarmWatch
from chat_app.service.erasure import MANY, VISITOR, erase_rater, sweep_deleted
from chat_app.service.upkeep import Upkeep
from chat_app.settings import Settings, load_settings
from feedback_store.errors import ConflictError
from feedback_store.privacy.forgetting import DELETED_DAYS
from feedback_store.sqlite.ids import iso_utc
from feedback_store.store import FeedbackStore


def say(store: FeedbackStore, rater: str) -> str:
    store.add_rater(rater, consent="1")
    conversation = store.add_conversation(rater, title=f"of {rater}").id
    asked = store.add_message(conversation, "user", f"asked by {rater}")
    good, bad = (
        store.add_message(conversation, "assistant", text, parent_id=asked.id)
        for text in ("yes", "no")
    )
    store.add_thumb(good.id, rater, 1)
    store.add_thumb(bad.id, rater, -1)
    store.refresh_comparisons()
    return conversation


def delete(store: FeedbackStore, rater: str, conversation: str, *, days: float) -> None:
    store.delete_conversation(rater, conversation)
    at = iso_utc(datetime.now(UTC) - timedelta(days=days))
    with store._file.write() as db:
        db.execute("UPDATE conversations SET deleted_at = ? WHERE id = ?", [at, conversation])


def test_who_asks_during_a_cycle_teaches_nothing_at_once_and_is_erased_after_it(
    store: FeedbackStore, settings: Settings
) -> None:
    say(store, "ann")
    say(store, "bob")
    cycle = store.start_cycle({}, pid=os.getpid())
    store.use_comparisons(cycle.id, [one.id for one in store.comparisons()])
    store.forget_later("ann")
    assert {one.rater_id for one in store.comparisons()} == {"bob"}
    assert store.is_being_forgotten("ann") and store.was_forgotten("ann")
    with pytest.raises(ConflictError, match="is being erased"):
        store.add_rater("ann", consent="1")
    upkeep = Upkeep(store, settings)
    upkeep.check()
    assert store.rater("ann").consent is None, "the cycle reads what it has begun with"
    store.register_adapter("policy-000001", kind="policy", cycle_id=cycle.id)
    store.finish_cycle(cycle.id, state="rejected", adapter="policy-000001")
    upkeep.check()
    [note] = store.forgotten()
    assert note.done_at is not None and not store.is_being_forgotten("ann")
    assert store.adapter("policy-000001").tainted_at, "the adapter that it made is marked"
    assert store.counts()["raters"] == 1
    [noted] = store.audit_log(action="files_erased")
    assert noted.detail["by"] == "the server" and "ann" not in str(noted.detail)
    assert store.add_rater("ann").consent is None, "who comes back begins anew"


def test_an_interrupted_erasure_is_finished_by_the_server(
    store: FeedbackStore, settings: Settings
) -> None:
    say(store, "ann")

    def killed(found: object) -> dict[str, int]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.forget("ann", clean=killed)
    Upkeep(store, settings).check()
    assert store.counts()["raters"] == 0 and store.forgotten()[0].done_at is not None


def test_what_was_deleted_long_ago_is_erased_and_nothing_else(
    store: FeedbackStore, settings: Settings
) -> None:
    old, young, kept = say(store, "ann"), say(store, "ann"), say(store, "ann")
    delete(store, "ann", old, days=DELETED_DAYS + 1)
    delete(store, "ann", young, days=DELETED_DAYS - 1)
    upkeep = Upkeep(store, settings)
    upkeep.check()
    assert {one["id"] for one in store.every_conversation("ann")} == {young, kept}
    [swept] = store.audit_log(action="sweep")
    assert swept.detail["conversations"] == 1
    delete(store, "ann", kept, days=DELETED_DAYS + 1)
    upkeep.check()
    assert len(store.every_conversation("ann")) == 2, "it looks once a day"


def test_nothing_is_swept_during_a_cycle_and_it_is_done_after_it(
    store: FeedbackStore, settings: Settings
) -> None:
    delete(store, "ann", say(store, "ann"), days=DELETED_DAYS + 1)
    cycle = store.start_cycle({}, pid=os.getpid())
    upkeep = Upkeep(store, settings)
    upkeep.check()
    assert len(store.every_conversation("ann")) == 1
    store.finish_cycle(cycle.id, state="rejected")
    upkeep.check()
    assert store.every_conversation("ann") == []


def test_what_cannot_be_erased_is_in_the_log_once(
    store: FeedbackStore, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    say(store, "ann")
    store.forget_later("ann")
    report = settings.data / "cycles" / "000009" / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text("no JSON")
    upkeep = Upkeep(store, settings)
    with caplog.at_level(logging.ERROR):
        upkeep.check()
        upkeep.check()
    [said] = caplog.records
    assert "cannot empty" in said.message and store.is_being_forgotten("ann")
    report.unlink()
    upkeep.check()
    assert not store.is_being_forgotten("ann")


def test_many_erasures_in_a_day_raise_one_alarm(store: FeedbackStore, settings: Settings) -> None:
    for number in range(MANY + 1):
        store.add_rater(f"rater {number}")
        assert store.alarms() == [] or number >= MANY - 1
        erase_rater(store, settings, f"rater {number}", by=VISITOR)
    [alarm] = store.alarms()
    assert (alarm.kind, alarm.value, alarm.limit) == ("erasures", MANY, MANY)
    assert str(MANY) in alarm.text and "rater 0" not in alarm.text


def test_the_watch_looks_after_it(store: FeedbackStore) -> None:
    quick = load_settings(data=store._file.path.parent, schedule={"poll_seconds": 0.05})
    say(store, "ann")
    store.forget_later("ann")
    watch = AlarmWatch(store, quick, upkeep=Upkeep(store, quick).check)
    watch.begin()
    try:
        for _ in range(400):
            if not store.is_being_forgotten("ann"):
                return
            watch._end.wait(0.05)
        pytest.fail("nobody was erased")
    finally:
        watch.end()


def test_a_sweep_that_was_interrupted_is_finished_at_the_next_start(
    store: FeedbackStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = say(store, "magpie")
    delete(store, "magpie", conversation, days=DELETED_DAYS + 1)

    def killed(file: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("feedback_store.privacy.forgetting.compact", killed)
        with pytest.raises(KeyboardInterrupt):
            Upkeep(store, settings).check()
    assert b"asked by magpie" in on_disk(settings), "the rows are gone, and their bytes are not"
    Upkeep(store, settings).check()
    assert b"asked by magpie" not in on_disk(settings)
    assert sweep_deleted(store, settings) == {}


def test_a_file_that_cannot_be_cleaned_holds_up_nobody_else(
    store: FeedbackStore, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    report = settings.data / "cycles" / "000009" / "report.json"
    report.parent.mkdir(parents=True)
    say(store, "ann")
    report.write_text("no JSON")
    with store._file.write() as db:
        db.execute("UPDATE raters SET created_at = '2020-01-01T00:00:00.000Z'")
    os.utime(report, times=(1_700_000_000,) * 2)  # it may quote her, and nobody who comes later
    for name in ("bob", "carl"):
        say(store, name)
    deleted = say(store, "dora")
    delete(store, "dora", deleted, days=DELETED_DAYS + 1)
    for name in ("ann", "bob", "carl"):
        store.forget_later(name)
    with caplog.at_level(logging.ERROR):
        Upkeep(store, settings).check()
    assert "cannot empty" in caplog.text
    waits = {name: store.is_being_forgotten(name) for name in ("ann", "bob", "carl")}
    assert waits == {"ann": True, "bob": False, "carl": False}
    assert len(store.audit_log(action="files_erased")) == 2
    assert store.every_conversation("dora") == []


def on_disk(settings: Settings) -> bytes:
    return b"".join(file.read_bytes() for file in settings.data.glob("feedback.db*"))
