from collections import Counter

import pytest

from feedback_store import ConflictError, InvalidFeedbackError, UnknownRecordError


def history(store):
    return [(event["event"], event.get("value")) for event in store.export_events()]


def test_the_same_key_again_gives_the_same_row_and_writes_nothing(store, ann):
    reply = ann.reply(ann.ask("hello"), "hi")
    vote = {"tags": ["kind"], "comment": "nice", "idempotency_key": "k"}
    first, again = (store.add_thumb(reply.id, ann.rater, 1, **vote) for _ in range(2))
    assert first == again
    assert store.thumbs() == [first]
    assert history(store) == [("thumb", 1)]


def test_the_same_key_with_another_content_is_a_conflict(store, ann):
    reply = ann.reply(ann.ask("hello"), "hi")
    store.add_thumb(reply.id, ann.rater, 1, idempotency_key="k")
    with pytest.raises(ConflictError, match="'k' was used before with another value"):
        store.add_thumb(reply.id, ann.rater, -1, idempotency_key="k")
    assert [thumb.value for thumb in store.thumbs()] == [1]


def test_a_retry_may_have_measured_another_time(store, ann):
    shown = ann.shown("hello", "x", "y")
    first = store.add_choice(shown, ann.rater, "a", seconds=1.0, idempotency_key="k")
    assert store.add_choice(shown, ann.rater, "a", seconds=9.0, idempotency_key="k") == first


def test_keys_of_different_raters_and_kinds_do_not_meet(store, ann, bob):
    for chat in (ann, bob):
        shown = chat.shown("hello", "x", "y")
        store.add_choice(shown, chat.rater, "a", idempotency_key="k")
        store.add_ranking(shown, chat.rater, [["a"], ["b"]], idempotency_key="k")
        store.add_thumb(store.candidates(shown)[0].id, chat.rater, 1, idempotency_key="k")
    kinds = Counter(name for name, _ in history(store))
    assert kinds == {"choice": 2, "ranking": 2, "thumb": 2}


def test_a_later_vote_supersedes_and_the_earlier_one_stays_as_history(store, ann, bob):
    reply = ann.reply(ann.ask("hello"), "hi")
    ann.thumb(reply, 1)
    bob.thumb(reply, 1)
    ann.thumb(reply, -1)
    assert {thumb.rater_id: thumb.value for thumb in store.thumbs()} == {"ann": -1, "bob": 1}
    assert history(store) == [("thumb", 1), ("thumb", 1), ("thumb", -1)]


def test_a_retry_of_a_superseded_vote_does_not_bring_it_back(store, ann):
    reply = ann.reply(ann.ask("hello"), "hi")
    store.add_thumb(reply.id, ann.rater, 1, idempotency_key="early")
    store.add_thumb(reply.id, ann.rater, -1, idempotency_key="late")
    assert store.add_thumb(reply.id, ann.rater, 1, idempotency_key="early").value == 1
    assert [thumb.value for thumb in store.thumbs()] == [-1]


def test_taking_a_thumb_back_is_not_a_thumb_down(store, ann):
    reply = ann.reply(ann.ask("hello"), "hi")
    ann.thumb(reply, 1)
    ann.thumb(reply, 0)
    assert store.thumbs() == []
    assert store.counts()["thumbs"] == 0
    assert history(store) == [("thumb", 1), ("thumb", 0)]


def test_a_choice_can_be_changed(store, ann):
    shown = ann.shown("hello", "x", "y")
    assert store.choices() == []
    ann.choose(shown, "a")
    ann.choose(shown, "both_bad")
    assert [choice.choice for choice in store.choices()] == ["both_bad"]


def test_a_ranking_names_every_label_once(store, ann):
    shown = ann.shown("hello", "x", "y", "z")
    ranking = store.add_ranking(shown, ann.rater, [["b"], ["c", "a"]], idempotency_key="k")
    assert store.add_ranking(shown, ann.rater, [["b"], ["a", "c"]]) == ranking  # it stands
    assert ranking.order == (("b",), ("a", "c"))
    for wrong in (
        [["a"], ["b"]],
        [["a", "b", "c", "d"]],
        [["a"], ["a", "b", "c"]],
        [[], list("abc")],
    ):
        with pytest.raises(InvalidFeedbackError, match="every label exactly once"):
            store.add_ranking(shown, ann.rater, wrong, idempotency_key="other")


def test_an_order_that_is_refused_is_shown_as_it_was_sent(store, ann):
    shown = ann.shown("hello", "x", "y", "z")
    with pytest.raises(InvalidFeedbackError) as error:
        store.add_ranking(shown, ann.rater, [["b"], ["a"]], idempotency_key="k")
    assert 'the order [["b"], ["a"]] does not name each of a, b, c once' in str(error.value)


def test_three_candidates_are_ranked_not_chosen_between(store, ann):
    shown = ann.shown("hello", "x", "y", "z")
    with pytest.raises(InvalidFeedbackError, match="send a ranking"):
        ann.choose(shown, "a")


def test_a_demonstration_keeps_its_prompt(store, ann):
    question = ann.ask("capital of France?")
    reply = ann.reply(question, "Lyon")
    edit = store.add_demonstration(ann.rater, "Paris", message_id=reply.id, idempotency_key="1")
    prompt = [{"role": "user", "content": "capital of Italy?"}]
    fresh = store.add_demonstration(ann.rater, "Rome", prompt=prompt, idempotency_key="2")
    assert edit.prompt == ({"role": "user", "content": "capital of France?"},)
    assert fresh.prompt == tuple(prompt)
    assert store.demonstrations() == [edit, fresh]


def test_a_second_edit_supersedes_but_a_second_answer_to_a_prompt_does_not(store, ann):
    reply = ann.reply(ann.ask("capital of France?"), "Lyon")
    prompt = [{"role": "user", "content": "a colour?"}]
    for text in ("Pari", "Paris"):
        store.add_demonstration(ann.rater, text, message_id=reply.id, idempotency_key=ann.key())
    for text in ("red", "blue"):
        store.add_demonstration(ann.rater, text, prompt=prompt, idempotency_key=ann.key())
    assert [item.content for item in store.demonstrations()] == ["Paris", "red", "blue"]


def test_only_consented_words_of_a_person_are_handed_out_to_be_imitated(store):
    prompt = [{"role": "user", "content": "a colour?"}]
    store.add_rater("silent")
    store.add_rater("consenting", consent="v1")
    store.add_rater("simulated", kind="simulated")
    store.add_rater("operator", kind="operator")
    for rater in ("silent", "consenting", "simulated", "operator"):
        store.add_demonstration(rater, "red", prompt=prompt, idempotency_key="k")
    store.let_programs_train(("simulated",))
    handed_out = {item.rater_id for item in store.demonstrations()}
    assert handed_out == {"consenting", "simulated", "operator"}
    store.set_consent("consenting", None)
    assert {item.rater_id for item in store.demonstrations()} == {"simulated", "operator"}


def test_wrong_feedback_is_refused_and_nothing_is_stored(store, ann):
    question = ann.ask("hello")
    reply = ann.reply(question, "hi")
    shown = ann.shown("hello", "x", "y")
    say = {"rater_id": ann.rater, "idempotency_key": "k"}
    wrong = [
        lambda: store.add_thumb(reply.id, value=2, **say),
        lambda: store.add_thumb(question.id, value=1, **say),
        lambda: store.add_thumb(reply.id, ann.rater, 1, idempotency_key=""),
        lambda: store.add_thumb(reply.id, ann.rater, 1, idempotency_key="k" * 201),
        lambda: store.add_thumb(reply.id, value=1, comment="\udfff", **say),
        lambda: store.add_choice(shown, choice="c", **say),
        lambda: store.add_choice(shown, choice="a", seconds=-1.0, **say),
        lambda: store.add_choice(shown, choice="a", strength=float("inf"), **say),
        lambda: store.add_demonstration(content=" ", message_id=reply.id, **say),
        lambda: store.add_demonstration(content="x", **say),
        lambda: store.add_demonstration(content="x", prompt=[], **say),
        lambda: store.add_demonstration(content="x", message_id=question.id, **say),
    ]
    for attempt in wrong:
        with pytest.raises(InvalidFeedbackError):
            attempt()
    assert history(store) == []


def test_feedback_about_nothing_or_by_nobody_is_refused(store, ann):
    reply = ann.reply(ann.ask("hello"), "hi")
    say = {"idempotency_key": "k"}
    for attempt in (
        lambda: store.add_thumb("nothing", ann.rater, 1, **say),
        lambda: store.add_thumb(reply.id, "nobody", 1, **say),
        lambda: store.add_choice("nothing", ann.rater, "a", **say),
        lambda: store.add_ranking("nothing", ann.rater, [["a"]], **say),
        lambda: store.add_demonstration(ann.rater, "x", message_id="nothing", **say),
    ):
        with pytest.raises(UnknownRecordError):
            attempt()


# Without a key


def test_saying_what_stands_already_changes_nothing(store, ann):
    reply = ann.reply(ann.ask("hello"), "hi")
    thumb = store.add_thumb(reply.id, ann.rater, -1, tags=["wrong"], comment="no")
    assert store.add_thumb(reply.id, ann.rater, -1) == thumb  # keeps the reasons
    assert store.add_thumb(reply.id, ann.rater, -1, comment="no") == thumb
    assert store.add_thumb(reply.id, ann.rater, -1, comment="never").id != thumb.id
    assert store.add_thumb(reply.id, ann.rater, 1).tags == ()


def test_with_a_key_each_event_is_kept(store, ann):
    reply = ann.reply(ann.ask("hello"), "hi")
    first = store.add_thumb(reply.id, ann.rater, 1, idempotency_key="k1")
    second = store.add_thumb(reply.id, ann.rater, 1, idempotency_key="k2")
    assert first.id != second.id
    assert store.add_thumb(reply.id, ann.rater, 1, idempotency_key="k1") == first


def test_a_choice_and_a_rewritten_answer_without_a_key_are_stored_once(store, ann):
    shown = ann.shown("hello", "x", "y")
    assert store.add_choice(shown, ann.rater, "a") == store.add_choice(shown, ann.rater, "a")
    reply = ann.reply(ann.ask("one more"), "hi")
    written = [store.add_demonstration(ann.rater, "hello!", message_id=reply.id) for _ in "ab"]
    assert written[0] == written[1]
