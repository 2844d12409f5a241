"""Values, turns and columns as other people's files write them."""

import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_store.datasets.foreign import columns, values
from feedback_store.errors import InvalidFeedbackError
from feedback_store.splits import visible
from tests.feedback_store.datasets.test_imports import (
    arena,
    flat,
    judged,
    node,
    oasst,
    open_webui,
    pandalm,
    row,
    take,
    ultra,
)

TRUE = [True, 1, 1.0, "True", "true", "1", "1.0", " TRUE "]
FALSE = [False, 0, 0.0, "False", "false", "0", "0.0"]
NOTHING = [None, float("nan"), ""]


@pytest.mark.parametrize("deleted", TRUE)
@pytest.mark.parametrize("shape", ["tree", "flat"])
def test_a_deleted_message_is_never_learnt_from_however_that_is_written(store, deleted, shape):
    tree = oasst()
    tree["prompt"]["replies"][1]["deleted"] = deleted
    report = take(store, "oasst", *([tree] if shape == "tree" else flat(tree)))
    assert report.skipped["a deleted message"] == 1
    assert judged(store) == {("Why is the sky blue?", "Nobody knows.", "Because of the sea.")}


@pytest.mark.parametrize("result", FALSE)
@pytest.mark.parametrize("shape", ["tree", "flat"])
def test_a_refused_message_is_never_learnt_from_however_that_is_written(store, result, shape):
    tree = oasst()
    tree["prompt"]["replies"][1]["review_result"] = result
    report = take(store, "oasst", *([tree] if shape == "tree" else flat(tree)))
    assert report.skipped["a message that reviewers refused"] == 1
    assert judged(store) == {("Why is the sky blue?", "Nobody knows.", "Because of the sea.")}


@pytest.mark.parametrize("nothing", NOTHING)
def test_messages_without_a_flag_are_taken_and_counted(store, nothing):
    tree = oasst()
    tree["prompt"]["replies"][0]["review_result"] = nothing
    del tree["prompt"]["replies"][2]["deleted"]
    report = take(store, "oasst", tree)
    assert report.new == 2 and sorted(report.noted.values()) == [1, 1]
    assert {reason.split()[-1] for reason in report.noted} == {"deleted", "refused"}


@pytest.mark.parametrize("value", ["perhaps", 2, 0.5, [], {}])
def test_a_flag_that_is_neither_is_malformed(store, value):
    tree = oasst()
    tree["prompt"]["replies"][0]["deleted"] = value
    report = take(store, "oasst", tree)
    assert (report.new, report.malformed_lines) == (0, 1)


@pytest.mark.parametrize("nothing", NOTHING)
def test_messages_that_went_through_pandas_are_the_same_tree(store, nothing):
    messages = flat(oasst())
    for message in messages:
        message["rank"] = nothing if message["rank"] is None else float(message["rank"])
        message["parent_id"] = message["parent_id"] or nothing
        message["created_date"] = 1675607030983  # milliseconds
    report = take(store, "oasst", *messages)
    assert (report.new, report.malformed_lines, report.skipped) == (2, 0, {})
    assert {choice.created_at for choice in store.choices()} == {"2023-02-05T14:23:50.983Z"}


def test_ids_that_became_numbers_with_a_point_still_belong_together(store):
    prompt = node(1, "A colour?", "prompter") | {"parent_id": None, "message_tree_id": 1.0}
    replies = [
        node(2.0, "Blue.", rank=0) | {"parent_id": 1.0, "message_tree_id": 1},
        node("3", "May.", rank=1) | {"parent_id": "1", "message_tree_id": 1.0},
    ]
    assert take(store, "oasst", *replies, prompt).new == 1


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (1682351591, "2023-04-24T15:53:11.000Z"),
        (1682351591.5, "2023-04-24T15:53:11.500Z"),
        ("1682351591500", "2023-04-24T15:53:11.500Z"),
        (1682351591500000, "2023-04-24T15:53:11.500Z"),
        (1682351591500000000, "2023-04-24T15:53:11.500Z"),
        ("2023-04-24T17:53:11.5+02:00", "2023-04-24T15:53:11.500Z"),
        ("2023-04-24 15:53:11", "2023-04-24T15:53:11.000Z"),
        ("2023-04-24", "2023-04-24T00:00:00.000Z"),
        (float("nan"), None),
        ("", None),
    ],
)
def test_a_time_may_be_iso_or_a_number_of_any_usual_unit(value, time):
    assert values.utc(value) == time


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.integers(10**300, 10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)  # fmt: skip


@given(anything)
def test_any_value_is_understood_or_refused_in_one_line(value):
    document = {"x": value}
    for read in (values.flag, values.number, values.whole, values.name_of, values.text):
        try:
            read(document, "x")
        except InvalidFeedbackError as exc:
            assert "'x'" in str(exc) and len(str(exc)) < 100
    try:
        values.utc(value)
    except InvalidFeedbackError as exc:
        assert "is no time" in str(exc)


@given(data=st.data())
def test_a_row_of_rubbish_is_malformed_or_left_out_and_stores_nothing_half(store_of, data):
    documents = [ultra(), arena(), oasst(), pandalm(), open_webui(), row()]
    forms = ("ultrafeedback", "arena", "oasst", "pandalm", "open-webui", "table")
    at = data.draw(st.integers(0, 5))
    document = documents[at]
    field = data.draw(st.sampled_from(sorted(document)))
    document[field] = data.draw(anything)
    report = take(store_of, forms[at], document)
    assert report.read == 1 and report.malformed_lines <= 1
    assert store_of.verify() == []


@pytest.fixture(scope="module")
def store_of(tmp_path_factory):
    from feedback_store import FeedbackStore

    with FeedbackStore(tmp_path_factory.mktemp("store") / "feedback.db") as store:
        yield store


REPLY = {"role": "assistant", "content": "Blue."}
SHAPES = [
    "Blue.",
    REPLY,
    [REPLY],
    json.dumps([REPLY]),
    [{"from": "gpt", "value": "Blue."}],
    [{"from": "human", "value": "Name a colour."}, {"from": "gpt", "value": "Blue."}],
    [{"role": "assistant", "content": [{"type": "text", "text": "Blue."}]}],
]


@pytest.mark.parametrize("chosen", SHAPES, ids=range(len(SHAPES)))
def test_a_reply_may_be_a_text_an_object_or_turns(store, chosen):
    rejected = "Tuesday."
    if isinstance(chosen, list) and len(chosen) == 2:
        rejected = [chosen[0], {"from": "gpt", "value": rejected}]
    take(store, "ultrafeedback", ultra() | {"chosen": chosen, "rejected": rejected})
    assert judged(store) == {("Name a colour.", "Blue.", "Tuesday.")}


def test_a_reply_that_is_json_but_no_turns_stays_a_text(store):
    take(store, "ultrafeedback", ultra() | {"chosen": "[1, 2]", "rejected": '{"a": 1}'})
    assert judged(store) == {("Name a colour.", "[1, 2]", '{"a": 1}')}


@pytest.mark.parametrize(
    ("one", "other"),
    [("Four.", " Four.\n"), ("a b", "a\u00a0 b"), ("ab", "a\u200bb"), ("ab", "a\ufe0fb\u2060")],
)
def test_replies_that_a_reader_cannot_tell_apart_say_the_same(store, one, other):
    assert take(store, "arena", arena(replies=(one, other))).skipped == {
        "the replies say the same": 1
    }
    assert visible(one) == visible(other)


@pytest.mark.parametrize("blank", ["\u200b", "\u3164", "\u2800", "\u00ad \n"])
def test_a_reply_of_which_nothing_can_be_seen_is_empty(store, blank):
    assert take(store, "arena", arena(replies=("Four.", blank))).skipped == {"an empty message": 1}


def test_of_ranked_replies_that_look_the_same_the_best_one_counts(store):
    tree = oasst()
    tree["prompt"]["replies"][0]["text"] = "Light  scatters. "  # the worst of three
    take(store, "oasst", tree)
    assert ("Why is the sky blue?", "Light scatters.", "Nobody knows.") in judged(store)
    assert not any("Light  scatters. " in pair for pair in judged(store))


def later(winner):
    """A row of the arena's release of 140,000 votes."""

    def said(role, text):
        part = {"type": "text", "text": text, "image": None, "mimeType": None}
        return {"role": role, "content": [part]}

    return {
        "id": "v1",
        "model_a": "x",
        "model_b": "y",
        "winner": winner,
        "evaluation_session_id": "s1",
        "evaluation_order": 1,
        "conversation_a": [said("user", "2 + 2?"), said("assistant", "Four.")],
        "conversation_b": [said("user", "2 + 2?"), said("assistant", "Five.")],
        "timestamp": "2025-07-01 10:00:00",
        "is_code": False,
    }


def flags(*won):
    """A row of its release of 55,000 votes, as in the CSV file."""
    names = ("winner_model_a", "winner_model_b", "winner_tie")
    row = {"id": "30192", "model_a": "x", "model_b": "y", "prompt": '["2 + 2?"]'}
    row |= {"response_a": '["Four."]', "response_b": '["Five."]'}
    return row | dict(zip(names, map(str, won), strict=True))


@pytest.mark.parametrize(
    ("document", "choice", "rater"),
    [
        (later("model_a"), "Four.", "arena:s1"),
        (later("both_bad"), "both_bad", "arena:s1"),
        (flags(0, 1, 0), "Five.", None),
        (flags(0, 0, 1), "tie", None),
        ({**arena(), "judge": None, "judge_hash": "h"}, "Four.", "arena:h"),
    ],
    ids=range(5),
)
def test_the_later_releases_of_the_arena_are_read(store, document, choice, rater):
    report = take(store, "arena", document)
    assert (report.new, report.malformed) == (1, ())
    (given_choice,) = store.choices()
    shown = {m.label: m.content for m in store.candidates(given_choice.candidates_id)}
    assert shown.get(given_choice.choice, given_choice.choice) == choice
    assert rater in (None, given_choice.rater_id)


@pytest.mark.parametrize(("anony", "new"), [*product(FALSE, [0]), *product(TRUE, [1])])
def test_a_vote_with_names_shown_is_left_out_however_that_is_written(store, anony, new):
    report = take(store, "arena", arena() | {"anony": anony})
    assert (report.new, report.noted) == (new, {})


@pytest.mark.parametrize("nothing", NOTHING)
def test_a_vote_that_does_not_say_whether_it_was_blind_is_counted(store, nothing):
    report = take(store, "arena", arena() | {"anony": nothing})
    assert report.new == 1 and list(report.noted.values()) == [1]


@pytest.mark.parametrize(("won", "says"), [((1, 1, 0), "2 of"), ((0, 0, 0), "0 of")])
def test_a_vote_with_two_outcomes_or_none_is_malformed(store, won, says):
    assert says in take(store, "arena", flags(*won)).malformed[0][1]


def test_each_of_the_three_who_judged_for_pandalm_is_a_rater(store):
    assert take(store, "pandalm", pandalm()).new == 3
    said = {choice.rater_id: choice.choice for choice in store.choices()}
    assert set(said) == {f"pandalm:annotator{n}" for n in (1, 2, 3)}
    assert said["pandalm:annotator3"] == "tie"
    assert {item.prompt[-1]["content"] for item in store.comparisons()} <= {"Add.\n\n2 + 2"}


def test_a_thumb_of_open_webui_is_a_thumb_with_its_reasons(store):
    take(store, "open-webui", open_webui(rating="-1"))
    (thumb,) = store.thumbs()
    assert (thumb.value, thumb.tags) == (-1, ("accurate_information", "colours"))
    assert (thumb.rater_id, thumb.comment) == ("open-webui:u1", "Yes.")
    assert thumb.created_at == "2024-11-30T20:53:20.000Z"


@pytest.mark.parametrize(("rating", "better"), [(1, "Blue."), (-1, "Tuesday.")])
def test_a_thumb_beside_another_models_reply_is_a_choice(store, rating, better):
    report = take(store, "open-webui", open_webui(rating, siblings=["small"]))
    assert (report.new, store.thumbs()) == (1, [])
    assert {pair[1] for pair in judged(store)} == {better}


def without(name):
    return {key: value for key, value in open_webui().items() if key != name}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (open_webui(rating=None), "without a thumb"),
        (open_webui() | {"type": "comment"}, "without a thumb"),
        (without("snapshot"), "without the chat"),
    ],
    ids=range(3),
)
def test_feedback_without_a_thumb_or_a_chat_is_left_out(store, document, says):
    (reason,) = take(store, "open-webui", document).skipped
    assert says in reason


def test_a_chat_in_a_circle_is_malformed(store):
    document = open_webui()
    messages = document["snapshot"]["chat"]["chat"]["history"]["messages"]
    messages["m1"]["parentId"] = "m2"
    assert "circle" in take(store, "open-webui", document).malformed[0][1]


@pytest.mark.parametrize(
    ("mapping", "won", "expected"),
    [
        ("a=one,b=two,label=won,prompt=q", "model_b", ("A month?", "Blue.", "May.")),
        ("a=one,b=two,label=won,prompt=q", "2.0", ("A month?", "Blue.", "May.")),
        ("chosen=one,rejected=two,prompt=q", 0, ("A month?", "May.", "Blue.")),
        ("a=one,b=two,label=won,label_a=1,label_b=0,prompt=q", 0, ("A month?", "Blue.", "May.")),
        (
            "a=one,b=two,label=won,label_tie=0,prompt=q",
            0.0,
            ("A month?", frozenset({"May.", "Blue."})),
        ),
    ],
    ids=range(5),
)
def test_any_table_is_read_by_its_columns(store, mapping, won, expected):
    take(store, "table", row() | {"won": won}, columns=mapping)
    assert judged(store) == {expected}


@pytest.mark.parametrize("as_text", [False, True])
def test_a_table_of_rankings_is_read_with_ties_and_gaps(store, as_text):
    texts, places = [f"reply {n}" for n in range(9)], [4, 1, 1, 2, 9, 9, 9, 5, 7]
    said = {"answers": texts, "places": places}
    if as_text:
        said = {name: json.dumps(value) for name, value in said.items()}
    mapping = "prompt=q,replies=answers,ranks=places,rater=by"
    take(store, "table", {"q": "Which order?", "by": "ann"} | said, columns=mapping)
    [event] = [event for event in store.export_events() if event["event"] == "ranking"]
    content = {message["label"]: message["content"] for message in event["messages"]}
    order = [sorted(content[label] for label in group) for group in event["order"]]
    assert order == [
        *(["reply 1", "reply 2"], ["reply 3"], ["reply 0"], ["reply 7"], ["reply 8"]),
        ["reply 4", "reply 5", "reply 6"],
    ]
    store.refresh_comparisons()
    assert len(store.comparisons()) == 36
    assert sum(c.weight for c in store.comparisons()) == pytest.approx(1)


@pytest.mark.parametrize("places", [[1], [1, 2.5], "best first", [1, True]])
def test_lists_that_are_no_ranking_are_refused(store, places):
    document = {"q": "Which?", "answers": ["one", "two"], "places": places}
    with pytest.raises(InvalidFeedbackError, match="'places'"):
        columns.read(document, columns.columns_of("prompt=q,replies=answers,ranks=places"))


def test_a_table_may_name_its_raters_and_itself(store):
    mapping = "prompt=q,a=one,b=two,label=won,rater=who,strength=how,created_at=at,model_a=m"
    more = {"how": "-2.5", "at": 1682351591, "m": "big"}
    take(store, "table", row() | more, columns=mapping, name="mine")
    (choice,) = store.choices()
    assert (choice.rater_id, choice.strength) == ("mine:12", 2.5)
    assert store.rater("mine:12").consent == "dataset:mine"
    assert choice.created_at.startswith("2023-04-24")


def test_a_label_whose_meaning_was_not_said_is_malformed(store):
    report = take(store, "table", row() | {"won": 0})
    assert "say what it means" in report.malformed[0][1]


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ("prompt", "'prompt'"),
        ("prompt=q,chosen=x", "chosen and rejected"),
        ("chosen=x,rejected=y,label=z", "chosen and rejected"),
        ("prompt=q,replies=x", "replies and ranks"),
        ("chosen=x,rejected=y,replies=z,ranks=r", "chosen and rejected"),
        ("chosen=x,chosen=y,rejected=z", "'chosen=y'"),
        ("colour=x", "'colour=x'"),
    ],
)
def test_a_mapping_that_says_too_little_is_refused(mapping, says):
    with pytest.raises(InvalidFeedbackError, match=says):
        columns.columns_of(mapping)


@pytest.mark.parametrize(("form", "mapping"), [("hh", "prompt=q"), ("table", None)])
def test_columns_go_with_a_table_and_with_nothing_else(store, form, mapping):
    with pytest.raises(InvalidFeedbackError, match="columns go with"):
        store.import_documents([], form, mapping)


def test_the_name_of_a_data_set_is_short_and_plain(store):
    with pytest.raises(InvalidFeedbackError, match="letters"):
        store.import_documents([], "hh", None, "a:b")
