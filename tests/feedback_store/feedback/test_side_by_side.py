import pytest

from feedback_store import CandidateReply, FeedbackStore, InvalidFeedbackError
from feedback_store.datasets.trl_rows import ExportOptions


def test_candidates_are_labelled_siblings(store, ann):
    question = ann.ask("hello")
    replies = [CandidateReply("x", "policy-000001", {"top_p": 1.0}, 3, "stop"), CandidateReply("y")]
    candidates_id, messages = store.add_candidates(question.id, replies, rater_id=ann.rater)
    assert store.candidates(candidates_id) == messages
    assert [(m.label, m.content, m.parent_id) for m in messages] == [
        ("a", "x", question.id),
        ("b", "y", question.id),
    ]
    assert messages[0].sampling == {"top_p": 1.0}
    assert store.candidates(candidates_id, rater_id=ann.rater) == messages
    assert store.owner_of(messages[1].id) == ann.rater


def test_candidates_are_stored_all_or_none(store, ann):
    question = ann.ask("hello")
    wrong = [CandidateReply("x"), CandidateReply("y", finish_reason="tired")]
    with pytest.raises(InvalidFeedbackError):
        store.add_candidates(question.id, wrong, rater_id=ann.rater)
    with pytest.raises(InvalidFeedbackError, match="between 2 and 26"):
        store.add_candidates(question.id, wrong[:1], rater_id=ann.rater)
    assert store.messages(ann.conversation) == [question]


def test_how_candidates_were_chosen_goes_with_them_into_exports(store, ann, tmp_path):
    """By lot unless somebody says otherwise, as before there was a choice."""
    options = ExportOptions(split="all", with_metadata=True)
    for text, given in (("hello", {}), ("good day", {"arm": "active", "propensity": 0.55})):
        replies = [CandidateReply("x"), CandidateReply("y")]
        asked = ann.ask(text)
        shown, _ = store.add_candidates(asked.id, replies, rater_id=ann.rater, **given)
        ann.choose(shown, "a")
    ann.thumb(ann.reply(ann.ask("bye"), "x"), 1)
    store.refresh_comparisons()
    chosen = {
        row["prompt"][0]["content"]: (row["arm"], row["propensity"])
        for row in store.export_rows("preference", options)
    }
    assert chosen == {"hello": ("random", 1.0), "good day": ("active", 0.55)}
    with FeedbackStore(tmp_path / "other.db") as other:
        other.import_events(store.export_events())
        assert [*other.export_events()] == [*store.export_events()]
        other.refresh_comparisons()
        rows = [*other.export_rows("preference", options)]
        assert {row["propensity"] for row in rows} == {1.0, 0.55}


@pytest.mark.parametrize(
    ("given", "message"),
    [({"arm": "greedy"}, "'greedy'"), ({"propensity": 0.0}, "propensity of 0.0")],
)
def test_how_candidates_were_chosen_is_one_of_two_ways_with_a_probability(
    store, ann, given, message
):
    replies = [CandidateReply("x"), CandidateReply("y")]
    with pytest.raises(InvalidFeedbackError, match=message):
        store.add_candidates(ann.ask("hello").id, replies, rater_id=ann.rater, **given)


def test_candidates_from_before_0015_were_shown_by_lot(store, ann):
    ann.choose(ann.shown("hello", "x", "y"), "a")
    with store._file.write() as db:
        db.execute("UPDATE candidates SET arm = NULL, propensity = NULL")
    store.refresh_comparisons()
    [row] = store.export_rows("preference", ExportOptions(split="all", with_metadata=True))
    assert (row["arm"], row["propensity"]) == ("random", 1.0)


def test_the_candidates_that_a_page_showed_last_are_known_and_whether_they_were_judged(store, ann):
    assert store.latest_candidates(ann.rater, "compare") is None
    ann.shown("in the chat", "x", "y")
    shown = []
    for text in ("one", "two"):
        [asked] = store.add_dialogue(
            ann.rater, [{"role": "user", "content": text}], title=text, page="compare"
        )
        replies = [CandidateReply("x"), CandidateReply("y"), CandidateReply("z")]
        shown.append(store.add_candidates(asked.id, replies, rater_id=ann.rater)[0])
    assert store.latest_candidates(ann.rater, "compare") == shown[1]
    store.add_ranking(shown[1], ann.rater, [["a"], ["b", "c"]])
    assert [store.judged(one, ann.rater) for one in shown] == [False, True]
    assert [told.title for told in store.conversations(ann.rater, page="compare")] == ["two", "one"]
    assert "two" not in [told.title for told in store.conversations(ann.rater)]


def test_where_a_conversation_began_goes_with_it_into_exports(store, ann, tmp_path):
    [asked] = store.add_dialogue(ann.rater, [{"role": "user", "content": "hello"}], page="compare")
    replies = [CandidateReply("x"), CandidateReply("y")]
    shown, _ = store.add_candidates(asked.id, replies, rater_id=ann.rater)
    ann.choose(shown, "a")
    with FeedbackStore(tmp_path / "other.db") as other:
        other.import_events(store.export_events())
        assert other.latest_candidates(ann.rater, "compare") == shown
    with pytest.raises(InvalidFeedbackError, match="page"):
        store.add_dialogue(ann.rater, [{"role": "user", "content": "hello"}], page="elsewhere")
