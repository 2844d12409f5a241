"""Gold questions: when they come, what an answer is, and where nothing of them is shown."""

import pytest

from feedback_store import InvalidFeedbackError
from feedback_store.datasets.trl_rows import _PROMPTS, ExportOptions
from feedback_store.feedback.gold_questions import GoldItem
from feedback_store.feedback.search import _SEARCH
from feedback_store.sqlite.rows import rows
from feedback_store.training_data import _COUNTS
from tests.feedback_store.conftest import Chat
from tests.feedback_store.raters.test_behaviour import set_time

ITEMS = [
    GoldItem(({"role": "user", "content": f"test {n}"},), f"right {n}", f"wrong {n}")
    for n in range(4)
]


def judged(chat, times, *, begin=0):
    for number in range(begin, begin + times):
        chat.choose(chat.shown(f"own question {number}", "x", "y"), "ab"[number % 2])


def test_a_gold_question_comes_after_every_nth_side_by_side_and_stays_until_answered(store, ann):
    judged(ann, 2)
    assert store.gold_question("ann", ITEMS, every=3) is None
    judged(ann, 1, begin=2)
    test = store.gold_question("ann", ITEMS, every=3)
    assert test is not None
    judged(ann, 6, begin=3)
    assert store.gold_question("ann", ITEMS, every=3) == test
    ann.choose(test, "tie")
    assert store.gold_question("ann", ITEMS, every=3) not in (test, None)
    assert store.gold_question("ann", [], every=3) is not None  # what is open stays open


def test_nobody_takes_a_gold_question_twice_and_sides_are_drawn_by_lot(store):
    sides = set()
    for rater in (f"rater-{n}" for n in range(8)):
        chat, prompts = Chat(store, rater), set()
        judged(chat, len(ITEMS) + 2)
        while test := store.gold_question(rater, ITEMS, every=1):
            left, right = store.candidates(test)
            prompts.add(store.message(left.parent_id).content)
            sides.add(left.content.split()[0])
            assert {left.content[-1], right.content[-1]} == {store.path(left.id)[0].content[-1]}
            assert (left.adapter, right.adapter) == (None, None)
            chat.choose(test, "a")
        assert prompts == {f"test {n}" for n in range(len(ITEMS))}
    assert sides == {"right", "wrong"}


def test_gold_questions_are_in_no_list_of_conversations_and_become_no_comparison(store, ann):
    judged(ann, 1)
    test = store.gold_question("ann", ITEMS, every=1)
    right = next(m.label for m in store.candidates(test) if m.content.startswith("right"))
    ann.choose(test, right)
    store.refresh_comparisons()
    assert len(store.comparisons()) == 1
    assert store.unpaired() == []
    assert [one.id for one in store.conversations("ann")] == [ann.conversation]
    [standing] = store.raters()
    assert (standing.gold_right, standing.gold_total, standing.said) == (1, 1, 1)
    store.forget("ann")
    with store._file.read() as db:
        assert rows(db, "SELECT 1 FROM messages") == rows(db, "SELECT 1 FROM candidates") == []


def begun(store, chat):
    """A gold question, the label of its right reply, and that reply."""
    judged(chat, 1)
    test = store.gold_question(chat.rater, ITEMS, every=1)
    right = next(m for m in store.candidates(test) if m.content.startswith("right"))
    return test, right.label, right


@pytest.mark.parametrize(("first", "total"), [("tie", 1), ("both_bad", 0)])
def test_the_first_answer_to_a_gold_question_counts(store, ann, first, total):
    test, label, _ = begun(store, ann)
    choice = store.add_choice(test, "ann", first, idempotency_key="first")
    set_time(store, "choices", choice.id, 0)
    ann.choose(test, label)  # the receipt says by now that it was a test
    [report] = store.assess_raters()
    assert (report.gold_right, report.gold_total) == (0, total)


def test_of_a_gold_question_nothing_can_be_said_but_which_reply_is_better(store, ann):
    test, label, right = begun(store, ann)
    about = {"message_id": right.id, "idempotency_key": "k"}
    for say in (
        lambda: store.add_thumb(rater_id="ann", value=1, **about),
        lambda: store.add_demonstration("ann", "better still", **about),
        lambda: store.add_message(
            right.conversation_id, "assistant", "x", parent_id=right.parent_id, retry_of=right.id
        ),
    ):
        with pytest.raises(InvalidFeedbackError, match=f"{right.id}' belongs to a gold question"):
            say()
    ann.choose(test, label)
    store.refresh_comparisons()
    assert [len(store.messages(right.conversation_id)), len(store.feedback_of("ann"))] == [3, 2]
    assert store.thumbs() == store.demonstrations() == store.unpaired() == []


def test_the_words_of_gold_questions_are_not_found_as_anybodys(store, ann):
    begun(store, ann)
    assert store.search("right") == store.search("test") == []
    assert len(store.search("question")) == 1


def test_the_prompts_of_gold_questions_are_not_exported(store, ann):
    begun(store, ann)
    prompts = [row["prompt"] for row in store.export_rows("prompts", ExportOptions(split="all"))]
    assert prompts == [[{"role": "user", "content": "own question 0"}]]


def test_gold_questions_and_their_answers_are_not_counted(store, ann):
    test, label, right = begun(store, ann)
    ann.choose(test, label)
    store.refresh_comparisons()
    counts = store.counts()
    assert (counts["messages"], counts["choices"], counts["comparisons"]) == (3, 1, 1)
    assert len(store.messages(right.conversation_id)) == 3


def list_of_conversations(store):
    """The SQL that lists a rater's conversations."""
    statements = []
    store._file._reader.conn.set_trace_callback(statements.append)
    store.conversations("ann")
    store._file._reader.conn.set_trace_callback(None)
    return next(sql for sql in statements if "FROM conversations" in sql)


def test_gold_questions_are_left_out_by_looking_at_them_alone_and_once(store):
    prompts = (
        _PROMPTS.replace(":split", "NULL").replace(":rater", "'ann'").replace(":since", "NULL")
    )
    listed = list_of_conversations(store)
    with store._file.read() as db:
        for sql in (listed, _COUNTS, _SEARCH.replace("?", "1"), prompts):
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]
            begin = next(n for n, step in enumerate(plan) if step.startswith("LIST SUBQUERY"))
            tests, first_messages = plan[begin + 1 : begin + 3]
            assert tests.startswith("SEARCH candidates USING INDEX candidates_"), plan
            assert first_messages.startswith("SEARCH messages"), plan


def test_who_fails_gold_questions_is_held(store, ann):
    items = [
        GoldItem(({"role": "user", "content": f"q {n}"},), "right", "wrong") for n in range(12)
    ]
    judged(ann, 12)
    while test := store.gold_question("ann", items, every=1):
        wrong = next(m.label for m in store.candidates(test) if m.content == "wrong")
        ann.choose(test, wrong)
    [report] = store.assess_raters(by="operator-1")
    assert report.quarantine == "right in only 0 of 12 questions whose answers are known"
    assert store.comparisons() == []
