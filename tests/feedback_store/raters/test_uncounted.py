"""Who reads that a cycle has too little evidence reads where the rest of it is."""

import pytest

from feedback_store import FeedbackStore
from feedback_store.feedback.gold_questions import GoldItem
from tests.feedback_store.conftest import Chat


def lines(store, **more):
    store.refresh_comparisons()
    return store.left_out(**more).lines()


def votes(store, rater, count, choice="a"):
    chat = Chat(store, rater)
    for number in range(count):
        chat.choose(chat.shown(f"question {number} of {rater}", "x", "y"), choice)
    return chat


def test_if_everything_counts_there_is_nothing_to_say(store):
    votes(store, "ann", 3)
    assert lines(store) == ()


def test_quarantined_raters_are_told_with_how_many_and_why(store):
    for number, rater in enumerate(("u1", "u2", "u3", "u4")):
        votes(store, rater, 3)
        reason = f"made {8 + number} of 12 choices too fast" if number < 3 else "posts links"
        store.quarantine(rater, by="cycle", reason=reason)
    store.quarantine(votes(store, "gone", 0).rater, by="operator", reason="said nothing yet")
    votes(store, "ann", 2)
    [said] = lines(store)
    assert said.startswith("not counted: 12 comparisons of 4 raters in quarantine (3 such as “made")
    assert said.endswith("of 12 choices too fast”, “posts links”)")
    since = store.rater("u1").created_at
    assert "4 since this cycle began" in lines(store, since=since)[0]
    store.release("u4", by="operator")
    assert "9 comparisons of 3 raters in quarantine" in lines(store)[0]


def no_consent(store):
    store.set_consent(votes(store, "ann", 2).rater, None)


def contrary(store):
    votes(store, "ann", 2)
    with store._file.write() as db:
        db.execute("UPDATE raters SET reliability = 0")


def ties(store):
    votes(store, "ann", 2, "tie")


def thumbs(store):
    chat = Chat(store)
    for number in range(2):
        chat.thumb(chat.reply(chat.ask(f"question {number}"), "yes"), 1)


def changed(store):
    chat = Chat(store)
    for number in range(2):
        shown = chat.shown(f"question {number}", "x", "y")
        chat.choose(shown, "a")
        chat.choose(shown, "b")


def the_same(store):
    chat = Chat(store)
    for number in range(2):
        chat.choose(chat.shown(f"question {number}", "x", "x"), "a")


def retries(store):
    chat = Chat(store)
    for number in range(2):
        asked = chat.ask(f"question {number}")
        old = chat.reply(asked, "no")
        chat.store.add_message(
            chat.conversation, "assistant", "yes", parent_id=asked.id, retry_of=old.id
        )


def gold(store):
    chat = votes(store, "ann", 2)
    asked = (
        ({"role": "user", "content": "Capital of Peru?"},),
        ({"role": "user", "content": "1+1"},),
    )
    items = [GoldItem(prompt, "right", "wrong") for prompt in asked]
    for _ in items:
        chat.choose(store.gold_question("ann", items, every=1), "a")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (no_consent, "2 comparisons of 1 rater without consent"),
        (contrary, "2 comparisons of 1 rater of reliability 0"),
        (gold, "2 answers to gold questions"),
        (changed, "2 votes that were changed or taken back later"),
        (the_same, "2 votes on replies that say the same"),
        (retries, "2 retries that were not accepted"),
    ],
)
def test_each_reason_is_told_with_its_count(store, said, words):
    said(store)
    [line] = lines(store)
    assert line.startswith(f"not counted: {words}"), line
    assert ";" not in line, "and no other reason"


@pytest.mark.parametrize(
    ("said", "words"),
    [(ties, "2 ties"), (thumbs, "2 thumbs and “both bad” without an opposite")],
)
def test_what_counts_half_is_told_as_that(store, said, words):
    said(store)
    [line] = lines(store)
    assert line == f"counted, but not in full: {words} are half of a decided vote each, or less"


def test_raters_who_weigh_less_are_told_with_what_their_comparisons_are_worth(store):
    votes(store, "ann", 4)
    with store._file.write() as db:
        db.execute("UPDATE raters SET reliability = 0.25")
    [line] = lines(store)
    assert "4 comparisons of 1 rater weigh as much as 1.0, by reliability and caps" in line


def test_held_out_raters_are_told(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as store:
        names = (f"rater-{n}" for n in range(100))
        held_out = next(name for name in names if store.add_rater(name, consent="1").held_out)
        votes(store, held_out, 8)
        store.refresh_comparisons()
        only = sum(c.split == "held_out_raters" for c in store.comparisons())
        assert only
        [line] = lines(store)
        assert f"{only} comparisons of 1 held-out raters are only measured on" in line
