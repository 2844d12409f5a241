from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_store.comparisons import Evidence, derive_comparisons, normalised, split_of
from feedback_store.records import Choice, Demonstration, Message, Ranking, Thumb

TIME = "2026-01-01T00:00:00.000Z"
PROMPT = ({"role": "user", "content": "capital of France?"},)


def message(name, role, content, *, parent=None, candidates=None, label=None):
    return Message(
        name, "c", parent, role, content, None, None, None, None, candidates, label, TIME
    )


def world(*texts, prompt="capital of France?"):
    """A question `q` and its replies 0, 1, ..., shown together as candidates `s`."""
    replies = [
        message(str(i), "assistant", text, parent="q", candidates="s", label="abcdefgh"[i])
        for i, text in enumerate(texts)
    ]
    return {item.id: item for item in (message("q", "user", prompt), *replies)}


def thumb(target, value, rater="ann", key="k"):
    return Thumb(f"t{target}{rater}{key}", target, rater, value, (), "", key, TIME)


def choice(picked, rater="ann"):
    return Choice(f"c{rater}", "s", rater, picked, None, None, "k", TIME)


def ranking(*groups):
    return Ranking("r", "s", "ann", tuple(tuple(group) for group in groups), "k", TIME)


def edit(target, text):
    return Demonstration(f"d{target}", "ann", target, PROMPT, text, "k", TIME)


def derive(messages, *, choices=(), rankings=(), thumbs=(), demonstrations=()):
    return derive_comparisons(Evidence(choices, rankings, thumbs, demonstrations, messages))


def preferred(comparison):
    """The better and the worse text, whichever side they are on."""
    oriented = comparison.swap() if comparison.label == "b" else comparison
    return oriented.response_a, oriented.response_b


def test_a_choice_keeps_the_sides_as_shown():
    [found] = derive(world("Lyon", "Paris"), choices=[choice("b")])
    assert (found.response_a, found.response_b, found.label) == ("Lyon", "Paris", "b")
    assert (found.prompt, found.source, found.weight) == (PROMPT, "choice", 1.0)
    assert found.event_ids == ("cann",)


def test_a_tie_is_kept_and_both_bad_compares_nothing():
    assert [c.label for c in derive(world("x", "y"), choices=[choice("tie")])] == ["tie"]
    assert derive(world("x", "y"), choices=[choice("both_bad")]) == []


def test_identical_texts_compare_nothing():
    assert derive(world("x", "x"), choices=[choice("a")]) == []
    assert derive(world("x", "x"), thumbs=[thumb("0", 1), thumb("1", -1)]) == []
    assert derive(world("x"), demonstrations=[edit("0", "x")]) == []


def test_thumbs_pair_up_with_down_within_one_rater_and_prompt():
    [found] = derive(world("x", "y"), thumbs=[thumb("0", -1), thumb("1", 1)])
    assert preferred(found) == ("y", "x")
    assert found.source == "thumbs"
    assert derive(world("x", "y"), thumbs=[thumb("0", -1, "ann"), thumb("1", 1, "bob")]) == []
    assert derive(world("x", "y"), thumbs=[thumb("0", 1), thumb("1", 1)]) == []


def test_thumbs_pair_across_conversations_only_on_the_same_prompt():
    first = world("x")
    for asked, pairs in (("Capital of  FRANCE?", 1), ("capital of Italy?", 0)):
        again = {
            "q2": message("q2", "user", asked),
            "r2": message("r2", "assistant", "y", parent="q2"),
        }
        assert len(derive(first | again, thumbs=[thumb("0", 1), thumb("r2", -1)])) == pairs


def test_many_thumbs_share_the_weight_of_as_many_opinions_as_can_be_paired():
    votes = [thumb("0", 1), thumb("1", 1), thumb("2", -1), thumb("3", -1), thumb("4", -1)]
    found = derive(world(*"vwxyz"), thumbs=votes)
    assert len(found) == 6
    assert sum(item.weight for item in found) == pytest.approx(2)


def test_a_rewritten_response_is_better_than_the_original():
    [found] = derive(world("Lyon"), demonstrations=[edit("0", "Paris")])
    assert (preferred(found), found.source) == (("Paris", "Lyon"), "edit")


def test_a_ranking_gives_all_pairs_with_the_weight_of_one_opinion():
    found = derive(world("x", "y", "z"), rankings=[ranking("b", "ac")])
    assert {(c.response_a, c.response_b, c.label) for c in found} == {
        ("x", "y", "b"),
        ("x", "z", "tie"),
        ("y", "z", "a"),
    }
    assert sum(item.weight for item in found) == pytest.approx(1)


def test_the_more_direct_judgement_of_the_same_two_texts_counts():
    events = {
        "choices": [choice("b")],
        "rankings": [ranking("a", "b")],
        "thumbs": [thumb("0", 1), thumb("1", -1)],
        "demonstrations": [edit("0", "y")],
    }
    for source in ("choice", "ranking", "edit", "thumbs"):
        assert [item.source for item in derive(world("x", "y"), **events)] == [source]
        events.pop(
            {"choice": "choices", "ranking": "rankings", "edit": "demonstrations"}.get(
                source, "thumbs"
            )
        )


def test_a_response_to_nothing_is_not_compared():
    greetings = [message(str(i), "assistant", text) for i, text in enumerate("xy")]
    votes = [thumb("0", 1), thumb("1", -1)]
    assert derive({item.id: item for item in greetings}, thumbs=votes) == []


def test_the_prompt_is_the_whole_path():
    messages = world("x", "y")
    turn = message("q", "user", "and Italy?", parent="before")
    before = message("before", "assistant", "Paris", parent="start")
    start = message("start", "system", "be brief")
    messages |= {item.id: item for item in (turn, before, start)}
    [found] = derive(messages, choices=[choice("a")])
    assert [item["content"] for item in found.prompt] == ["be brief", "Paris", "and Italy?"]


def test_a_quarter_of_the_prompts_is_held_out_and_spelling_does_not_matter():
    prompts = [({"role": "user", "content": f"what is {i} plus {i}?"},) for i in range(2000)]
    share = sum(split_of(prompt) == "held_out" for prompt in prompts) / len(prompts)
    assert 0.22 < share < 0.28
    odd = ({"role": "user", "content": "  Capital of\u00a0FRANCE? "},)
    assert normalised(odd) == normalised(PROMPT)
    assert split_of(odd) == split_of(PROMPT)


def said(*texts):
    """A conversation that starts with the user."""
    return tuple(
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)
    )


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


def test_neither_side_is_always_the_better_one():
    labels = [
        derive(world("no", f"text {i}"), thumbs=[thumb("0", -1), thumb("1", 1)])[0].label
        for i in range(40)
    ]
    assert 5 < labels.count("a") < 35


texts = st.text(max_size=3)


@settings(deadline=None)
@given(texts, texts, st.sampled_from(["a", "b", "tie", "both_bad"]))
def test_swapping_the_sides_of_a_choice_swaps_its_comparison(first, second, picked):
    swapped = {"a": "b", "b": "a"}.get(picked, picked)
    plain = derive(world(first, second), choices=[choice(picked)])
    mirrored = derive(world(second, first), choices=[choice(swapped)])
    assert [replace(item.swap(), id="") for item in plain] == [
        replace(item, id="") for item in mirrored
    ]
    assert [item.swap().swap() for item in plain] == plain


votes = st.dictionaries(
    st.tuples(st.sampled_from("0123"), st.sampled_from(["ann", "bob"])), st.sampled_from([1, -1])
)


@settings(deadline=None)
@given(votes, st.randoms(use_true_random=False))
def test_arrival_order_never_matters(cast, random):
    messages = world("w", "x", "y", "y")
    thumbs = [thumb(target, value, rater) for (target, rater), value in cast.items()]
    picks = [choice("a", "ann"), choice("b", "bob")]
    edits = [edit("0", "x"), edit("1", "z")]
    expected = derive(messages, thumbs=thumbs, choices=picks, demonstrations=edits)
    shuffled = [random.sample(events, len(events)) for events in (thumbs, picks, edits)]
    found = derive(
        dict(random.sample(list(messages.items()), len(messages))),
        thumbs=shuffled[0],
        choices=shuffled[1],
        demonstrations=shuffled[2],
    )
    assert found == expected
    assert all(one.id < other.id for one, other in pairwise(found))


@settings(deadline=None)
@given(votes)
def test_thumbs_never_contradict_themselves_and_say_what_was_voted(cast):
    messages = world("w", "x", "y", "z")
    thumbs = [thumb(target, value, rater) for (target, rater), value in cast.items()]
    for found in derive(messages, thumbs=thumbs):
        better, worse = (str("wxyz".index(text)) for text in preferred(found))
        assert cast[better, found.rater_id] == 1
        assert cast[worse, found.rater_id] == -1
