"""The reasons of a choice: they belong to it, and it stays the choice that it was."""

import pytest

from feedback_store import CandidateReply, UnknownRecordError


@pytest.fixture
def shown(ann):
    return ann.shown("capital of Peru?", "Lima", "Rome")


def events(store):
    return [event for event in store.export_events() if event["event"] == "choice"]


def test_a_choice_is_stored_with_its_reasons(store, ann, shown):
    made = store.add_choice(shown, ann.rater, "a", tags=["clearer"], comment="short, too")
    assert (made.tags, made.comment) == (("clearer",), "short, too")
    assert store.choices() == [made] == [store.choice_of(shown, ann.rater)]


def test_a_choice_that_is_explained_later_is_no_second_choice(store, ann, shown):
    made = store.add_choice(shown, ann.rater, "a", strength=2.0, seconds=7.5, idempotency_key="k")
    store.refresh_comparisons()
    before, receipts = store.comparisons(), store.feedback_of(ann.rater)
    said = store.explain_choice(shown, ann.rater, tags=["safer", "kinder"], comment="so")
    store.refresh_comparisons()
    assert said.tags == ("safer", "kinder") and said.comment == "so"
    [row] = events(store)
    for name in ("id", "strength", "seconds", "created_at", "idempotency_key"):
        assert getattr(said, name) == getattr(made, name) == row[name]
    assert row["superseded_at"] is None
    assert store.comparisons() == before != []
    why = {"tags": ("safer", "kinder"), "comment": "so"}
    assert store.feedback_of(ann.rater) == [one | why for one in receipts]


def test_reasons_are_changed_one_by_one_and_taken_away(store, ann, shown):
    ann.choose(shown, "a")
    store.explain_choice(shown, ann.rater, tags=["clearer"])
    store.explain_choice(shown, ann.rater, comment="yes")
    assert store.choices()[0].tags == ("clearer",)
    store.explain_choice(shown, ann.rater, tags=[], comment="")
    [made] = store.choices()
    assert (made.tags, made.comment) == ((), "")


def test_a_choice_sent_again_with_its_key_takes_the_reasons_given_then(store, ann, shown):
    made = store.add_choice(shown, ann.rater, "b", strength=1.0, idempotency_key="k")
    again = store.add_choice(
        shown, ann.rater, "b", strength=1.0, tags=["shorter"], idempotency_key="k"
    )
    assert (again.id, again.tags) == (made.id, ("shorter",))
    silent = store.add_choice(shown, ann.rater, "b", strength=1.0, idempotency_key="k")
    assert silent.tags == ("shorter",), "a request without reasons leaves them"
    assert len(events(store)) == 1


def test_another_choice_has_reasons_of_its_own(store, ann, shown):
    store.add_choice(shown, ann.rater, "a", tags=["clearer"])
    changed = store.add_choice(shown, ann.rater, "b")
    assert changed.tags == ()
    assert [event["tags"] for event in events(store)] == [("clearer",), ()]


def test_nothing_is_explained_that_was_taken_back_or_never_said(store, ann, bob, shown):
    with pytest.raises(UnknownRecordError, match="no choice of yours stands"):
        store.explain_choice(shown, ann.rater, tags=["clearer"])
    made = store.add_choice(shown, ann.rater, "a")
    with pytest.raises(UnknownRecordError):
        store.explain_choice(shown, bob.rater, tags=["clearer"])
    store.withdraw_feedback(ann.rater, "choice", made.id)
    with pytest.raises(UnknownRecordError):
        store.explain_choice(shown, ann.rater, tags=["clearer"])
    assert store.choice_of(shown, ann.rater) is None
    store.restore_feedback(ann.rater, "choice", made.id)
    assert store.explain_choice(shown, ann.rater, tags=["clearer"]).tags == ("clearer",)


def test_blind_trials_and_gold_answers_do_not_notice_reasons(store, ann):
    store.register_adapter("one", kind="policy", state="published")
    trial = store.start_trial("canary", "one", "policy-000000", by="ann")
    replies = [CandidateReply("x", adapter="one"), CandidateReply("y", adapter="policy-000000")]
    asked = ann.ask("which?").id
    tried, _ = store.add_candidates(asked, replies, rater_id=ann.rater, trial_id=trial.id)
    gold, _ = store.add_candidates(ann.ask("Rome?").id, replies, rater_id=ann.rater, gold="a")
    ann.choose(tried, "a")
    ann.choose(gold, "a")
    before = store.trial_choices(trial.id), store.raters()
    for about in (tried, gold):
        store.explain_choice(about, ann.rater, tags=["clearer"], comment="it is")
    assert (store.trial_choices(trial.id), store.raters()) == before
    assert before[0] and before[1][0].gold_right == 1


def test_what_was_written_as_a_reason_is_erased_with_its_rater(store, ann, shown, path):
    store.add_choice(shown, ann.rater, "a", comment="Xylophagous-Quokka")
    store.forget(ann.rater)
    store.close()
    files = [file for file in path.parent.iterdir() if file.name.startswith(path.name)]
    assert files and not any(b"Quokka" in file.read_bytes() for file in files)
