"""Erasing one rater touches the files with that rater's words, and none known to lack them."""

import json
import os
from pathlib import Path

import pytest

from chat_app.service.erasure import EXPORTS, VISITOR, erase_rater
from chat_app.settings import Settings
from feedback_store.datasets.trl_rows import FORMS, ExportOptions
from feedback_store.store import FeedbackStore

EVERYTHING = ExportOptions(split="all")


def say(store: FeedbackStore, rater: str) -> str:
    """A pair of thumbs, one without an opposite, and a better answer; returns a reply."""
    store.add_rater(rater, consent="1")
    conversation = store.add_conversation(rater, title=f"of {rater}").id
    for question in ("first", "second"):
        asked = store.add_message(conversation, "user", f"the {question} question of {rater}")
        good = store.add_message(conversation, "assistant", "yes", parent_id=asked.id)
        store.add_thumb(good.id, rater, 1)
        if question == "first":
            bad = store.add_message(conversation, "assistant", "no", parent_id=asked.id)
            store.add_thumb(bad.id, rater, -1)
    store.add_demonstration(rater, f"better, says {rater}", message_id=bad.id)
    store.refresh_comparisons()
    return good.id


def export(store: FeedbackStore, settings: Settings, form: str, name: str) -> Path:
    options = None if form == "events" else EVERYTHING
    report = store.export_file(settings.data / EXPORTS / name, form, options, replace=True)
    assert report.path is not None
    return report.path


def erase(store: FeedbackStore, settings: Settings, rater: str) -> dict[str, int]:
    return erase_rater(store, settings, rater, by=VISITOR).counts


@pytest.mark.parametrize("form", FORMS)
def test_only_exports_with_the_raters_words_are_deleted(
    store: FeedbackStore, settings: Settings, form: str
) -> None:
    store.add_rater("newcomer")  # before the exports, and not in them
    say(store, "ann")
    without = export(store, settings, form, "before.jsonl")
    say(store, "bob")
    both = export(store, settings, form, "after.jsonl")
    assert erase(store, settings, "newcomer")["exports"] == 0
    assert without.exists() and both.exists()
    assert erase(store, settings, "bob")["exports"] == 1
    assert without.exists() and not both.exists()
    assert erase(store, settings, "ann")["exports"] == 1 and not without.exists()


@pytest.mark.parametrize("form", ["events", "unpaired"])
def test_an_export_with_anothers_vote_on_the_raters_words_is_deleted(
    store: FeedbackStore, settings: Settings, form: str
) -> None:
    reply = say(store, "ann")
    store.withdraw_feedback("ann", "thumb", store.thumbs()[-1].id)
    store.add_rater("bob", consent="1")
    store.add_thumb(reply, "bob", 1)
    store.refresh_comparisons()
    file = export(store, settings, form, "votes.jsonl")
    assert "second question of ann" in file.read_text()
    erase(store, settings, "ann")
    assert not file.exists()


def test_a_file_that_was_written_anew_is_about_those_who_are_in_it_now(
    store: FeedbackStore, settings: Settings
) -> None:
    say(store, "ann")
    export(store, settings, "events", "votes.jsonl")
    store.add_rater("bob", consent="1")
    erase(store, settings, "ann")
    say(store, "bob")
    file = export(store, settings, "events", "votes.jsonl")
    say(store, "carl")
    erase(store, settings, "carl")
    assert file.exists()
    assert [*store.known_exports()] == [str(file)]


def test_a_file_of_which_nobody_knows_is_deleted_if_it_may_quote_the_rater(
    store: FeedbackStore, settings: Settings
) -> None:
    say(store, "ann")
    known = export(store, settings, "events", "known.jsonl")
    old = known.with_name("old.jsonl")
    old.write_text("of before")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    say(store, "bob")
    copy = known.with_name("copy.jsonl")
    copy.write_text(known.read_text())
    erase(store, settings, "bob")
    assert known.exists() and old.exists() and not copy.exists()


def test_another_file_in_the_place_of_a_known_one_is_not_known(
    store: FeedbackStore, settings: Settings
) -> None:
    say(store, "ann")
    file = export(store, settings, "events", "votes.jsonl")
    say(store, "bob")
    later = file.stat().st_mtime + 60
    file.write_text("\n".join(json.dumps(event) for event in store.export_events()))
    os.utime(file, (later, later))
    erase(store, settings, "bob")
    assert not file.exists()


def test_only_reports_of_cycles_that_may_have_learnt_from_the_rater_lose_their_samples(
    store: FeedbackStore, settings: Settings
) -> None:
    for rater in ("ann", "bob"):
        say(store, rater)
        cycle = store.start_cycle({}, pid=os.getpid())
        mine = [one.id for one in store.comparisons() if one.rater_id == rater]
        store.use_comparisons(cycle.id, mine)
        name = f"policy-{cycle.id:06d}"
        store.register_adapter(name, kind="policy", cycle_id=cycle.id)
        store.finish_cycle(cycle.id, state="rejected", adapter=name)
        report = settings.data / "cycles" / f"{cycle.id:06d}" / "report.json"
        report.parent.mkdir(parents=True)
        report.write_text(json.dumps({"samples": [{"prompt": f"asked by {rater}"}]}))
    say(store, "carl")
    died = settings.data / "cycles" / "000009" / "report.json"  # before it named its adapter
    died.parent.mkdir()
    died.write_text(json.dumps({"samples": [{"prompt": "of anybody"}]}))
    assert erase(store, settings, "carl")["reports"] == 1
    assert json.loads(died.read_text())["samples"] == []
    assert erase(store, settings, "bob")["reports"] == 1

    def samples(number: int) -> list[object]:
        report = settings.data / "cycles" / f"{number:06d}" / "report.json"
        return list(json.loads(report.read_text())["samples"])

    assert samples(2) == [] and len(samples(1)) == 1


def test_what_was_erased_with_a_rater_is_in_the_audit_log_without_a_name(
    store: FeedbackStore, settings: Settings
) -> None:
    say(store, "ann")
    export(store, settings, "events", "votes.jsonl")
    erase(store, settings, "ann")
    [entry] = store.audit_log(action="files_erased")
    assert entry.detail == {"by": VISITOR, "exports": 1}
    assert store.known_exports() == {}
