import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_store import FeedbackStore, InvalidFeedbackError, StoreUnavailableError
from feedback_store.datasets.files import read_documents
from feedback_store.datasets.imports import FOREIGN_FORMS


def hh(chosen="Paris.", rejected="Go away.", question="Capital of France?"):
    prompt = f"\n\nHuman: {question}\n\nAssistant: Of today's France?\n\nHuman: Yes."
    return {
        "chosen": f"{prompt}\n\nAssistant: {chosen}",
        "rejected": f"{prompt}\n\nAssistant: {rejected}",
    }


def ultra(chosen="Blue.", rejected="Tuesday.", scores=(8.5, 4.0), prompt="Name a colour."):
    def whole(reply):
        return [{"content": prompt, "role": "user"}, {"content": reply, "role": "assistant"}]

    return {
        "prompt": prompt,
        "prompt_id": "b1d4",
        "chosen": whole(chosen),
        "rejected": whole(rejected),
        "messages": whole(chosen),
        "score_chosen": scores[0],
        "score_rejected": scores[1],
    }


def arena(winner="model_a", number=1, replies=("Four.", "Five."), questions=("2 + 2?", "2 + 2?")):
    sides = [
        [{"content": question, "role": "user"}, {"content": reply, "role": "assistant"}]
        for question, reply in zip(questions, replies, strict=True)
    ]
    return {
        "question_id": f"q{number}",
        "model_a": "big-model",
        "model_b": "small-model",
        "winner": winner,
        "judge": f"arena_user_{number % 3}",
        "conversation_a": sides[0],
        "conversation_b": sides[1],
        "turn": 1,
        "anony": True,
        "language": "English",
        "tstamp": 1682351591.1322,
        "openai_moderation": {"flagged": False},
        "toxic_chat_tag": {"t5-large": {"flagged": False, "score": 0.03}},
    }


def node(name, text, role="assistant", replies=(), **more):
    return {
        "message_id": name,
        "user_id": "u1",
        "created_date": "2023-02-05T14:23:50.983374+00:00",
        "text": text,
        "role": role,
        "lang": "en",
        "review_result": True,
        "deleted": False,
        "rank": None,
        "synthetic": False,
        "model_name": None,
        "replies": list(replies),
    } | more


def oasst(name="t1", question="Why is the sky blue?"):
    deeper = node(
        "p2", "And at dusk?", "prompter",
        [node("d1", "Red.", rank=0), node("d2", "Because it is tired.", rank=1)],
    )  # fmt: skip
    root = node(
        "p1", question, "prompter",
        [
            node("a1", "Because of the sea.", rank=2),
            node("a2", "Light scatters.", rank=0, replies=[deeper]),
            node("a3", "Nobody knows.", rank=1),
        ],
    )  # fmt: skip
    return {"message_tree_id": name, "tree_state": "ready_for_export", "prompt": root}


def flat(tree):
    """The same tree as flat messages, children first: the order in a file is not to matter."""
    messages, stack = [], [(tree["prompt"], None)]
    while stack:
        message, parent = stack.pop()
        stack += [(reply, message["message_id"]) for reply in message["replies"]]
        plain = {name: value for name, value in message.items() if name != "replies"}
        messages.append(plain | {"parent_id": parent, "message_tree_id": tree["message_tree_id"]})
    return messages[::-1]


def pandalm(labels=(1, 1, 0)):
    row = {"idx": 7, "instruction": "Add.", "input": "2 + 2", "cmp_key": "x_y"}
    row |= {"response1": "Four.", "response2": "Five."}
    return row | {f"annotator{n}": label for n, label in enumerate(labels, start=1)}


def open_webui(rating=1, siblings=None):
    def said(name, parent, role, content, model=None):
        about = {"id": name, "parentId": parent, "role": role, "content": content}
        return about | ({"model": model} if model else {})

    messages = [
        said("m1", None, "user", "A colour?"),
        said("m2", "m1", "assistant", "Blue.", "big"),
        said("m3", "m1", "assistant", "Tuesday.", "small"),
    ]
    history = {"messages": {item["id"]: item for item in messages}, "currentId": "m2"}
    return {
        "id": "f1",
        "user_id": "u1",
        "version": 0,
        "type": "rating",
        "data": {
            "rating": rating,
            "model_id": "big",
            "sibling_model_ids": siblings,
            "reason": "accurate_information",
            "comment": "Yes.",
            "tags": ["colours"],
            "details": {"rating": 9},
        },
        "meta": {"arena": False, "chat_id": "c1", "message_id": "m2", "message_index": 1},
        "snapshot": {"chat": {"id": "c1", "title": "t", "chat": {"history": history}}},
        "created_at": 1733000000,
        "updated_at": 1733000001,
    }


def row():
    return {"q": "A month?", "one": "May.", "two": "Blue.", "won": 1, "who": 12.0}


EXAMPLES = {
    "hh": hh,
    "ultrafeedback": ultra,
    "arena": arena,
    "oasst": oasst,
    "pandalm": pandalm,
    "open-webui": open_webui,
    "table": row,
}
COLUMNS = "prompt=q,a=one,b=two,label=won,rater=who"


def take(store, form, *documents, columns=COLUMNS, name=None):
    mapping = columns if form == "table" else None
    return store.import_documents(enumerate(documents, start=1), form, mapping, name)


def judged(store, form=None):
    """What was learnt: the prompt's last message, the better reply, the worse one, ties apart."""
    store.refresh_comparisons()
    found = set()
    for item in store.comparisons():
        better = item if item.label == "a" else item.swap()
        pair = (better.response_a, better.response_b)
        if item.label == "tie":
            pair = (frozenset(pair),)
        found.add((item.prompt[-1]["content"], *pair))
    return found


def dump(store):
    return sorted(json.dumps(event, sort_keys=True) for event in store.export_events())


def import_at_once(*stores):
    """Have the raters of several imports be equally old."""
    for store in stores:
        with store._file.write() as db:
            db.execute("UPDATE raters SET created_at = '2026-01-01T00:00:00.000Z'")


def test_a_transcript_of_hh_becomes_a_choice_in_a_conversation(store):
    report = take(store, "hh", hh())
    assert (report.read, report.new, report.known, report.malformed_lines) == (1, 1, 0, 0)
    assert judged(store) == {("Yes.", "Paris.", "Go away.")}
    assert [message["content"] for message in store.comparisons()[0].prompt] == [
        "Capital of France?", "Of today's France?", "Yes.",
    ]  # fmt: skip
    rater = store.rater(store.choices()[0].rater_id)
    assert (rater.kind, rater.consent, rater.id[:3]) == ("person", "dataset:hh", "hh:")


def test_a_row_of_ultrafeedback_becomes_a_choice_with_a_strength(store):
    take(store, "ultrafeedback", ultra())
    assert judged(store) == {("Name a colour.", "Blue.", "Tuesday.")}
    assert [choice.strength for choice in store.choices()] == [4.5]


def test_the_prompt_of_ultrafeedback_may_be_in_the_conversations_or_beside_them(store):
    whole, beside = ultra(), ultra(prompt="A month?")
    del whole["prompt"]
    for side in ("chosen", "rejected"):
        beside[side] = beside[side][1:]
    assert take(store, "ultrafeedback", whole, beside).new == 2
    assert {prompt for prompt, *_ in judged(store)} == {"Name a colour.", "A month?"}


@pytest.mark.parametrize(
    ("winner", "expected"),
    [
        ("model_a", {("2 + 2?", "Four.", "Five.")}),
        ("model_b", {("2 + 2?", "Five.", "Four.")}),
        ("tie", {("2 + 2?", frozenset({"Four.", "Five."}))}),
        ("tie (bothbad)", set()),
    ],
)
def test_the_four_outcomes_of_the_arena_are_kept_apart(store, winner, expected):
    take(store, "arena", arena(winner))
    assert judged(store) == expected
    bad = {(item.response, item.good) for item in store.unpaired()}
    assert bad == ({("Four.", False), ("Five.", False)} if "bothbad" in winner else set())
    choice = store.choices()[0]
    assert (choice.rater_id, choice.created_at) == (
        "arena:arena_user_1",
        "2023-04-24T15:53:11.132Z",
    )
    models = {m.content: m.sampling for m in store.candidates(choice.candidates_id)}
    assert models == {"Four.": {"model": "big-model"}, "Five.": {"model": "small-model"}}


def test_a_tree_of_openassistant_becomes_rankings_along_its_branches(store):
    report = take(store, "oasst", oasst())
    assert (report.read, report.new) == (1, 2)
    assert sorted(event["event"] for event in store.export_events()) == ["choice", "ranking"]
    assert judged(store) == {
        ("Why is the sky blue?", "Light scatters.", "Nobody knows."),
        ("Why is the sky blue?", "Light scatters.", "Because of the sea."),
        ("Why is the sky blue?", "Nobody knows.", "Because of the sea."),
        ("And at dusk?", "Red.", "Because it is tired."),
    }


def test_flat_messages_of_openassistant_come_to_the_same_as_trees(store, tmp_path):
    take(store, "oasst", oasst())
    with FeedbackStore(tmp_path / "flat.db") as other:
        report = take(other, "oasst", *flat(oasst()))
        assert (report.read, report.new, report.malformed_lines) == (7, 2, 0)
        import_at_once(store, other)
        assert dump(other) == dump(store)
    assert take(store, "oasst", *flat(oasst())).known == 2


@pytest.mark.parametrize("form", FOREIGN_FORMS)
def test_importing_twice_adds_nothing(store, form):
    first = take(store, form, EXAMPLES[form]())
    counts, before = store.counts(), dump(store)
    second = take(store, form, EXAMPLES[form]())
    assert (second.new, second.known) == (0, first.new)
    assert (store.counts(), dump(store)) == (counts, before)


@pytest.mark.parametrize("form", FOREIGN_FORMS)
def test_what_was_imported_goes_out_and_in_as_events(store, form, tmp_path):
    take(store, form, EXAMPLES[form]())
    with FeedbackStore(tmp_path / "other.db") as other:
        other.import_events(store.export_events())
        assert dump(other) == dump(store)
        assert other.verify() == []


def test_the_better_reply_is_as_often_on_the_left_as_on_the_right(store):
    documents = [hh(f"good {i}", f"bad {i}", f"question {i}?") for i in range(200)]
    assert take(store, "hh", *documents).new == 200
    left = sum(choice.choice == "a" for choice in store.choices())
    assert 70 < left < 130


def transcripts(chosen, rejected):
    """Two of HH, short: "h" and "a" begin what the human and the assistant say."""
    speakers = {"h": "Human", "a": "Assistant"}
    return {
        name: "".join(f"\n\n{speakers[turn[0]]}: {turn}" for turn in turns.split())
        for name, turns in (("chosen", chosen), ("rejected", rejected))
    }


SKIPPED = [
    ("hh", transcripts("h1 a1", "h2 a2"), "part"),
    ("hh", transcripts("h1 a1 h2 a2", "h1 a1"), "part"),
    ("hh", transcripts("h1 a1 h2", "h1 a1"), "turns"),
    ("hh", transcripts("h1 h2 a1", "h1 h2 a2"), "turns"),
    ("hh", hh("same", "same"), "same"),
    ("hh", hh(rejected=""), "empty"),
    ("ultrafeedback", ultra(scores=(3.0, 4.0)), "lower score"),
    ("arena", arena(questions=("2 + 2?", "3 + 3?")), "part"),
    ("arena", arena() | {"anony": False}, "names"),
    ("arena", arena() | {"conversation_b": []}, "turns"),
    ("oasst", {"prompt": node("p", "?", "prompter", deleted=True)}, "deleted"),
    ("oasst", {"prompt": node("p", "?", "prompter", review_result=False)}, "refused"),
    ("oasst", {"prompt": node("p", "?", "prompter",
                              [node("a", "x", rank=0), node("b", "y")])}, "without a rank"),
    ("oasst", node("b", "y") | {"parent_id": "p", "message_tree_id": "t"}, "hangs on no"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "document", "says"), SKIPPED, ids=lambda value: str(value)[:20])
def test_what_gives_no_judgement_is_counted_with_the_reason(store, form, document, says):
    report = take(store, form, document)
    assert (report.new, report.malformed_lines) == (0, 0)
    ((reason, count),) = report.skipped.items()
    assert says in reason and count == 1
    assert store.counts()["raters"] == 0


def test_equal_scores_are_a_tie(store):
    take(store, "ultrafeedback", ultra(scores=(5.0, 5.0)))
    assert [item.choice for item in store.choices()] == ["tie"]


def test_a_spam_reply_is_left_out_of_its_ranking_with_all_that_answers_it(store):
    tree = oasst()
    tree["prompt"]["replies"][1]["review_result"] = False
    report = take(store, "oasst", tree)
    assert report.skipped == {"a message that reviewers refused": 1}
    assert judged(store) == {("Why is the sky blue?", "Nobody knows.", "Because of the sea.")}


MALFORMED = [
    ("hh", {"chosen": "x"}, "'chosen' does not begin with 'Human:'"),
    ("hh", {"rejected": "\n\nHuman: a"}, "there is no 'chosen'"),
    ("hh", [1], "no JSON object"),
    ("ultrafeedback", ultra() | {"chosen": 7}, "'chosen' cannot be 7"),
    ("ultrafeedback", ultra() | {"chosen": []}, "no message"),
    ("ultrafeedback", ultra(scores=("good", 4.0)), "'score_chosen' cannot be 'good'"),
    ("ultrafeedback", ultra(scores=(float("inf"), 4.0)), "'score_chosen' cannot be inf"),
    ("ultrafeedback", ultra(scores=(1e308, -1e308)), "too far apart"),
    ("arena", arena("both"), "'winner' cannot be 'both'"),
    ("arena", arena() | {"question_id": ""}, "'question_id' cannot be ''"),
    ("arena", arena() | {"anony": "perhaps"}, "'anony' cannot be 'perhaps'"),
    ("arena", arena() | {"tstamp": "soon"}, "'soon' is no time"),
    ("arena", arena() | {"conversation_a": [{"role": "robot", "content": ""}]}, "'robot'"),
    ("oasst", {"prompt": node("p", "?", "human")}, "'role' cannot be 'human'"),
    ("oasst", node("p", 7, "prompter"), "'text' cannot be 7"),
    ("oasst", {"prompt": node("p", "?", "prompter",
                              [node("a", "x", rank=0.5), node("b", "y", rank=0)])}, "'rank'"),
    ("arena", arena(replies=("x\ud800", "y")), "surrogate"),
    ("hh", hh(question="x\ud800"), "surrogate"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "document", "says"), MALFORMED, ids=lambda value: str(value)[:20])
def test_a_malformed_line_is_named_and_the_rest_is_imported(store, form, document, says):
    report = take(store, form, EXAMPLES[form](), document)
    assert report.new > 0 and report.malformed_lines == 1
    ((line, reason),) = report.malformed
    assert line == 2 and says in reason and "\n" not in reason
    assert store.verify() == []


def test_the_first_malformed_lines_are_named_and_all_are_counted(store):
    report = take(store, "hh", *[{} for _ in range(1_200)], hh())
    assert (report.read, report.new, report.malformed_lines) == (1_201, 1, 1_200)
    assert [line for line, _ in report.malformed] == list(range(1, 21))


def test_a_second_opinion_on_the_same_replies_does_not_replace_the_first(store):
    report = take(store, "hh", hh("x", "y"), hh("y", "x"))
    assert (report.new, report.skipped) == (
        1,
        {"another judgement of the same replies is stored": 1},
    )
    assert judged(store) == {("Yes.", "x", "y")}


def test_whom_an_operator_has_forgotten_does_not_come_back(store):
    take(store, "arena", arena())
    store.forget("arena:arena_user_1")
    report = take(store, "arena", arena(), arena(number=2))
    assert (report.new, report.skipped) == (1, {"a rater who was forgotten here": 1})


def test_a_store_that_fails_is_an_error_and_not_a_malformed_line(store, monkeypatch):
    def full(*_):
        raise StoreUnavailableError("the disk is full")

    monkeypatch.setattr("feedback_store.datasets.judged.store_event", full)
    with pytest.raises(StoreUnavailableError, match="full"):
        take(store, "hh", hh())
    assert store.counts()["raters"] == 0


def test_an_unknown_format_is_refused(store):
    with pytest.raises(InvalidFeedbackError, match="'csv'"):
        take(store, "csv", {})


LINES = [json.dumps(hh(question=f"{i}?")) for i in range(3)]


def written(path):
    """The same three documents in the form that the name asks for."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([json.loads(line) for line in LINES]), path)
        return path
    text = f"[{','.join(LINES)}]" if ".json" in path.suffixes else "\n\n".join(LINES)
    data = "\ufeff".encode() + text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.json.gz", "a.parquet"])
def test_a_file_may_be_lines_or_a_list_or_parquet_or_packed(store, tmp_path, name):
    report = store.import_documents(read_documents(written(tmp_path / name)), "hh")
    assert (report.read, report.new, report.malformed_lines) == (3, 3, 0)


def test_broken_lines_of_a_file_are_named_by_their_number(store, tmp_path):
    path = tmp_path / "a.jsonl"
    good, deep = LINES, '{"x":' + "[" * 100_000
    path.write_text("\n".join([good[0], "", "{broken", '"x', deep, good[1]]))
    report = store.import_documents(read_documents(path), "hh")
    assert (report.read, report.new) == (5, 2)
    assert [line for line, _ in report.malformed] == [3, 4, 5]


@pytest.mark.parametrize("name", ["a.json", "a.parquet"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text("[1, 2")
    with pytest.raises(InvalidFeedbackError, match=name):
        list(read_documents(path))


words = st.text(st.characters(codec="utf-8"), max_size=6)


@settings(max_examples=30)  # each makes a store
@given(
    st.lists(
        st.builds(hh, words, words, words)
        | st.builds(lambda text: {"chosen": text, "rejected": text}, words)
    )
)
def test_any_transcripts_are_imported_once_and_accounted_for(tmp_path_factory, documents):
    with FeedbackStore(tmp_path_factory.mktemp("store") / "feedback.db") as store:
        first = take(store, "hh", *documents)
        before = dump(store)
        again = take(store, "hh", *documents)
        assert (again.new, again.known) == (0, first.new + first.known)
        assert dump(store) == before and len(before) == first.new
        assert first.new + first.known + sum(first.skipped.values()) + first.malformed_lines == (
            len(documents)
        )
