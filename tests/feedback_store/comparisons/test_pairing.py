"""What opinions come to; their texts stand for their own hashes, which are never looked into."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_store.comparisons.pairing import RETRY_WEIGHT, JudgedReply, Opinion, derive
from feedback_store.splits import (
    is_held_out_question,
    is_held_out_rater,
    path_hash,
    prompt_hash,
    split,
    split_of,
    text_hash,
)

TIME = "2026-01-01T00:00:00.000Z"
LATER = "2026-01-02T00:00:00.000Z"


def reply(text, name=None):
    return JudgedReply(name or f"message of {text}", text, "question")


def choice(picked, *texts, event="c", at=TIME):
    places = {"a": (0, 1), "b": (1, 0), "tie": (0, 0)}[picked]
    return Opinion(event, "choice", at, tuple(map(reply, texts)), places)


def both_bad(*texts, event="bb"):
    return Opinion(event, "both_bad", TIME, tuple(map(reply, texts)), (-1, -1))


def ranking(texts, places):
    return Opinion("r", "ranking", TIME, tuple(map(reply, texts)), tuple(places))


def edit(new, old):
    return Opinion("e", "edit", TIME, (reply(new), reply(old)), (0, 1))


def retry(new, old):
    return Opinion("y", "retry", TIME, (reply(new), reply(old)), (0, 1))


def thumb(text, value, *, event=None, at=TIME):
    return Opinion(event or f"t{text}", "thumb", at, (reply(text),), (value,))


def pairs(*opinions):
    return derive("ann", "prompt", opinions).pairs


def singles(*opinions):
    return derive("ann", "prompt", opinions).singles


def preferred(pair):
    """The better and the worse text, whichever side they are on."""
    assert pair.label != "tie"
    return (pair.a.text, pair.b.text) if pair.label == "a" else (pair.b.text, pair.a.text)


def test_a_choice_keeps_the_sides_as_shown():
    [found] = pairs(choice("b", "Lyon", "Paris"))
    assert (found.a.text, found.b.text, found.label) == ("Lyon", "Paris", "b")
    assert (found.source, found.weight, found.event_ids) == ("choice", 1.0, ("c",))


def test_a_tie_compares_and_both_bad_says_that_each_is_bad():
    assert [found.label for found in pairs(choice("tie", "x", "y"))] == ["tie"]
    assert pairs(both_bad("x", "y")) == []
    found = singles(both_bad("x", "y"))
    assert {(one.reply.text, one.good, one.weight) for one in found} == {
        ("x", False, 0.5),
        ("y", False, 0.5),
    }


def test_identical_texts_compare_nothing():
    assert pairs(choice("a", "x", "x")) == []
    assert pairs(edit("x", "x")) == []
    assert pairs(retry("x", "x")) == []


def test_opposite_thumbs_are_paired_and_nothing_of_them_is_left_unpaired():
    derived = derive("ann", "prompt", [thumb("x", -1), thumb("y", 1)])
    assert [preferred(pair) for pair in derived.pairs] == [("y", "x")]
    assert derived.singles == []


def test_thumbs_without_an_opposite_judge_one_response_each():
    derived = derive("ann", "prompt", [thumb("x", 1), thumb("y", 1)])
    assert derived.pairs == []
    assert [(one.good, one.weight, one.source) for one in derived.singles] == [
        (True, 1.0, "thumb")
    ] * 2


def test_of_two_thumbs_on_the_same_text_the_later_counts():
    votes = [thumb("x", 1, event="old"), thumb("x", -1, event="new", at=LATER)]
    assert pairs(*votes) == []
    assert [one.event_id for one in singles(*votes)] == ["new"]


def test_a_thumb_is_a_clearer_word_on_a_response_than_both_bad():
    found = singles(both_bad("x", "y"), thumb("x", 1))
    assert {(one.reply.text, one.good) for one in found} == {("x", True), ("y", False)}


def test_many_thumbs_share_the_weight_of_as_many_opinions_as_can_be_paired():
    votes = [thumb("v", 1), thumb("w", 1), thumb("x", -1), thumb("y", -1), thumb("z", -1)]
    found = pairs(*votes)
    assert len(found) == 6
    assert sum(pair.weight for pair in found) == pytest.approx(2)


def test_a_rewritten_response_is_better_than_the_original():
    [found] = pairs(edit("Paris", "Lyon"))
    assert (preferred(found), found.source) == (("Paris", "Lyon"), "edit")


def test_an_accepted_retry_is_weakly_better_than_what_it_replaced():
    [found] = pairs(retry("Paris", "Lyon"))
    assert (preferred(found), found.source, found.weight) == (
        ("Paris", "Lyon"),
        "retry",
        RETRY_WEIGHT,
    )


def test_a_ranking_gives_all_pairs_with_the_weight_of_one_opinion():
    found = pairs(ranking("xyz", [1, 0, 1]))
    assert {(pair.a.text, pair.b.text, pair.label) for pair in found} == {
        ("x", "y", "b"),
        ("x", "z", "tie"),
        ("y", "z", "a"),
    }
    assert sum(pair.weight for pair in found) == pytest.approx(1)


def test_the_more_direct_judgement_of_the_same_two_texts_counts():
    said = [
        choice("b", "x", "y"),
        ranking("xy", [0, 1]),
        edit("y", "x"),
        thumb("x", 1),
        thumb("y", -1),
        retry("y", "x"),
    ]
    for source in ("choice", "ranking", "edit", "thumbs", "retry"):
        assert [pair.source for pair in pairs(*said)] == [source]
        said = [item for item in said if not source.startswith(item.source)]


def test_of_two_contradicting_choices_the_later_counts_once():
    old = choice("a", "x", "y", event="old")
    new = choice("a", "y", "x", event="new", at=LATER)
    [found] = pairs(new, old)
    assert (preferred(found), found.event_ids) == (("y", "x"), ("new",))


def test_the_same_opinion_has_the_same_id_on_whichever_side_it_was_shown():
    [one], [other] = pairs(choice("a", "x", "y")), pairs(choice("b", "y", "x", event="d"))
    [contrary] = pairs(choice("b", "x", "y"))
    assert one.id == other.id != contrary.id
    [elsewhere] = derive("ann", "another prompt", [choice("a", "x", "y")]).pairs
    [somebody] = derive("bob", "prompt", [choice("a", "x", "y")]).pairs
    assert len({one.id, elsewhere.id, somebody.id}) == 3


def test_neither_side_is_always_the_better_one():
    labels = [pairs(thumb(text_hash(str(i)), 1), thumb("8", -1))[0].label for i in range(40)]
    assert 5 < labels.count("a") < 35


def said(*texts):
    """A conversation that starts with the user."""
    return tuple(
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)
    )


def test_a_quarter_of_the_prompts_is_held_out_and_spelling_does_not_matter():
    prompts = [said(f"what is {i} plus {i}?") for i in range(2000)]
    share = sum(split_of(prompt) == "held_out" for prompt in prompts) / len(prompts)
    assert 0.22 < share < 0.28
    plain, odd = said("capital of France?"), said("  Capital of\u00a0FRANCE? ")
    assert prompt_hash(odd) == prompt_hash(plain)
    assert split_of(odd) == split_of(plain)


def test_the_hash_of_a_prompt_is_that_of_its_whole_path():
    first = path_hash(None, "user", "hello")
    assert prompt_hash(said("hello")) == first
    assert prompt_hash(said("hello", "hi")) == path_hash(first, "assistant", "hi")
    assert prompt_hash(said("hello", "hi")) != prompt_hash(said("hellohi"))
    assert prompt_hash(()) is None


@settings(deadline=None)
@given(st.text(), st.lists(st.text(), max_size=2).map(lambda turn: turn * 2))
def test_the_path_to_a_question_never_moves_it_to_the_other_split(question, path):
    system = {"role": "system", "content": "be brief"}
    assert split_of((system, *said(*path, question))) == split_of(said(question))


@settings(deadline=None)
@given(st.text(), st.text(alphabet=" \t\n\u00a0\u200b.,;:!?'\"()-\u2026\u2019\u00bf"))
def test_case_spacing_and_punctuation_never_move_a_question_to_the_other_split(question, noise):
    assert split_of(said(noise + question + noise)) == split_of(said(question))
    assert split_of(said(question.casefold())) == split_of(said(question))
    assert split_of(said(noise.join("what is 2 plus 3"))) == split_of(said("What is 2 plus 3?"))


def test_questions_stay_in_the_split_that_they_have_had_since_the_first_release():
    splits = [split_of(said(f"What is {i} plus {i}?")) for i in range(32)]
    assert [i for i, split in enumerate(splits) if split == "held_out"] == [
        0,
        5,
        8,
        10,
        12,
        16,
        17,
        24,
        26,
        31,
    ]


def test_hashes_are_what_they_have_been_since_the_first_release():
    assert path_hash(None, "user", "Hello  THERE") == "fcc1a23ccbbd9bb8c6d06bd69b306618"
    assert text_hash("Hello  THERE") == "39a527a1b834b87e85ad8139096f73fe"
    assert [i for i in range(40) if is_held_out_rater(f"rater {i}")] == [10, 17, 39]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=4), st.uuids().map(str), st.booleans()), max_size=30),
)
def test_training_meets_no_held_out_question_and_no_held_out_rater(judged):
    """For any judgements by any raters, of whom some are held out for good."""
    sides = {}
    for question, rater, established in judged:
        held_out_rater = established and is_held_out_rater(rater)
        side = split(is_held_out_question(question), held_out_rater)
        sides.setdefault(side, []).append((question, (rater, held_out_rater)))
    for question, (_, held_out_rater) in sides.get("train", []):
        assert question not in {other for other, _ in sides.get("held_out", [])}
        assert not held_out_rater


texts = st.text(max_size=3)


@settings(deadline=None)
@given(texts, texts, st.sampled_from(["a", "b", "tie"]))
def test_swapping_the_sides_of_a_choice_swaps_its_comparison(first, second, picked):
    plain = pairs(choice(picked, first, second))
    mirrored = pairs(choice({"a": "b", "b": "a"}.get(picked, picked), second, first))
    exchanged = [
        pair._replace(a=pair.b, b=pair.a, label={"a": "b", "b": "a"}.get(pair.label, pair.label))
        for pair in plain
    ]
    assert mirrored == exchanged


some_text = st.sampled_from("wxyz")
opinions = st.lists(
    st.one_of(
        st.builds(thumb, some_text, st.sampled_from([1, -1])),
        st.builds(choice, st.sampled_from(["a", "b", "tie"]), some_text, some_text),
        st.builds(both_bad, some_text, some_text),
        st.builds(edit, some_text, some_text),
        st.builds(retry, some_text, some_text),
        st.builds(ranking, st.permutations("xyz"), st.permutations([0, 1, 1])),
    ),
    max_size=8,
).map(
    lambda made: [
        item._replace(event_id=f"{i}", created_at=f"2026-01-0{i % 3 + 1}")
        for i, item in enumerate(made)
    ]
)


@settings(deadline=None)
@given(opinions, st.randoms(use_true_random=False))
def test_arrival_order_never_matters(cast, random):
    found = derive("ann", "prompt", cast)
    assert derive("ann", "prompt", random.sample(cast, len(cast))) == found
    names = [pair.id for pair in found.pairs] + [one.id for one in found.singles]
    assert len(names) == len(set(names))


@settings(deadline=None)
@given(opinions)
def test_two_texts_are_compared_at_most_once_and_a_response_judged_alone_at_most_once(cast):
    found = derive("ann", "prompt", cast)
    subjects = [frozenset((pair.a.text, pair.b.text)) for pair in found.pairs]
    assert len(subjects) == len(set(subjects))
    assert all(len(subject) == 2 for subject in subjects)
    alone = [one.reply.text for one in found.singles]
    assert len(alone) == len(set(alone))


@settings(deadline=None)
@given(st.dictionaries(some_text, st.sampled_from([1, -1])))
def test_thumbs_never_contradict_themselves_and_say_what_was_voted(cast):
    derived = derive("ann", "prompt", [thumb(text, value) for text, value in cast.items()])
    for pair in derived.pairs:
        better, worse = preferred(pair)
        assert (cast[better], cast[worse]) == (1, -1)
    assert all(cast[one.reply.text] == (1 if one.good else -1) for one in derived.singles)
    assert bool(derived.pairs) != bool(derived.singles) or not cast
