"""The audit log page by page, alarms that are open or past, and backups."""

import os
import time

import pytest

from chat_app.handlers.operate import records as module
from chat_app.handlers.operate.records import Records
from chat_app.service.chat import ChatService
from feedback_store.records import Alarm
from feedback_store.store import FeedbackStore


def test_the_audit_log_is_read_page_by_page(
    service: ChatService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    for number in range(3):
        service.store.note_act("login", by=f"key {number}", names=["a", "b"], empty=None)
    first = Records(service).audit(allowed=True)
    assert [line.by for line in first.lines] == ["key 2", "key 1"]
    assert first.lines[0].about == "names: a, b"
    last = Records(service).audit(first.more, allowed=True)
    assert ([line.by for line in last.lines], last.more) == (["key 0"], None)


def test_alarms_of_before_the_last_cycle_are_past(service: ChatService) -> None:
    store = service.store
    store.raise_alarm(Alarm("starved", "old"), key="1")
    time.sleep(0.01)  # times have milliseconds
    cycle = store.start_cycle({}, pid=os.getpid())
    store.raise_alarm(Alarm("length", "new"), key="1", cycle_id=cycle.id)
    found = Records(service).alarms(allowed=True)
    assert ([a.text for a in found.open], [a.text for a in found.past]) == (["new"], ["old"])
    assert found.sent_to == ""


def test_a_backup_is_listed_with_its_size_and_can_be_opened(service: ChatService) -> None:
    said = Records(service).back_up(allowed=True, by="key olga")
    (copy,) = Records(service).backups(allowed=True).copies
    assert copy.path in said and copy.bytes
    with FeedbackStore(f"{copy.path}/feedback.db") as copied:
        assert copied.serving() == service.store.serving()
    (newest,) = service.store.audit_log(action="backed_up")
    assert newest.detail["by"] == "key olga"


def test_a_copy_that_is_gone_is_said_to_be(service: ChatService) -> None:
    service.store.note_backup("/nowhere/at/all")
    (copy,) = Records(service).backups(allowed=True).copies
    assert copy.bytes is None
