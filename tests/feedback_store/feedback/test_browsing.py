"""What people said is listed as a cycle would learn it, newest first, and filtered."""

import pytest

from feedback_store import CandidateReply
from feedback_store.errors import InvalidFeedbackError
from feedback_store.feedback.browsing import SaidFilter


def said(store, **wanted):
    store.refresh_comparisons()
    return store.said(SaidFilter(**wanted))


def test_choices_thumbs_and_written_answers_are_all_there_with_their_question(store, ann):
    ann.choose(ann.shown("Which one?", "this", "that"), "a")
    ann.thumb(ann.reply(ann.ask("How much?"), "five"), 1)
    asked = [{"role": "user", "content": "Why?"}]
    store.add_demonstration(ann.rater, "Because.", prompt=asked, idempotency_key=ann.key())
    found = {one.kind: one for one in said(store)}
    assert set(found) == {"choice", "thumb", "demonstration"}
    questions = [found[kind].question for kind in ("choice", "thumb", "demonstration")]
    assert questions == ["Which one?", "How much?", "Why?"]
    assert found["choice"].conversation_id == ann.conversation
    assert found["demonstration"].conversation_id is None


def test_a_filter_names_a_rater_a_kind_or_a_time(store, ann, bob):
    for chat in (ann, bob):
        chat.choose(chat.shown("Which one?", "this", "that"), "a")
        chat.thumb(chat.reply(chat.ask("How much?"), "five"), 1)
    assert {one.rater_id for one in said(store, rater_id=bob.rater)} == {bob.rater}
    assert {one.kind for one in said(store, kind="thumb")} == {"thumb"}
    assert said(store, since="2999") == [] and len(said(store, until="2999")) == 4
    splits = {split: len(said(store, split=split)) for split in ("train", "held_out")}
    assert sum(splits.values()) + len(said(store, split="held_out_raters")) == 4


def test_a_ranking_of_nine_is_one_line_on_every_page(store, ann):
    ann.choose(ann.shown("Which one?", "this", "that"), "a")
    replies = [CandidateReply(f"reply {number}") for number in range(9)]
    shown, _ = store.add_candidates(ann.ask("Which order?").id, replies, rater_id=ann.rater)
    order = [["i"], ["a", "b"], *map(list, "cdefgh")]
    made = store.add_ranking(shown, ann.rater, order, idempotency_key=ann.key())
    ann.choose(ann.shown("And now?", "this", "that"), "b")
    store.refresh_comparisons()
    lines, before = [], None
    while page := store.said(before=before, limit=1):
        lines += page
        before = page[-1].place
    assert [one.kind for one in lines] == ["choice", "ranking", "choice"]
    assert (lines[1].id, lines[1].event_ids, lines[1].question) == (
        made.id,
        (made.id,),
        "Which order?",
    )
    assert lines[1].weight == pytest.approx(1)
    assert len(store.comparisons()) == 2 + 36, "only the list has it as one"


def test_a_vote_that_was_taken_back_is_not_listed(store, ann):
    reply = ann.reply(ann.ask("How much?"), "five")
    ann.thumb(reply, 1)
    assert len(said(store)) == 1
    ann.thumb(reply, 0)
    assert said(store) == []


def test_what_does_not_exist_is_refused(store):
    with pytest.raises(InvalidFeedbackError, match="no opinion is a 'rumour'"):
        said(store, kind="rumour")
    with pytest.raises(InvalidFeedbackError, match="no split 'all'"):
        said(store, split="all")
    with pytest.raises(InvalidFeedbackError, match="rows cannot be given"):
        store.said(limit=0)
