"""Data sets as their owners publish them, if FEEDBACK_CHAT_DATA_SETS names a folder with them."""

import os
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import pytest

from feedback_store.datasets.files import read_whole

FOLDER = os.environ.get("FEEDBACK_CHAT_DATA_SETS")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FOLDER is None, reason="FEEDBACK_CHAT_DATA_SETS names no folder"),
]
LLMBAR = "prompt=input,a=output_1,b=output_2,label=label"


def take(store, name, form, mapping=None, prefix=None):
    return store.import_documents(read_whole(Path(FOLDER) / name), form, mapping, prefix)


def test_the_three_people_of_pandalm_agree_as_they_did(store):
    report = take(store, "pandalm_testset_v1.json", "pandalm")
    # a text that is empty, for three people each; six where a text has become true or false
    assert (report.read, report.new, report.malformed_lines) == (999, 2_817, 6)
    assert report.skipped == {"an empty message": 162}
    said = defaultdict(list)  # of each rater, in the order of the file
    for choice in store.choices():
        replies = store.candidates(choice.candidates_id)
        shown = {reply.label: reply.content for reply in replies}
        said[choice.rater_id].append((sorted(shown.values()), shown.get(choice.choice)))
    agreed = [
        votes[0] == votes[1]
        for one, other in combinations(said.values(), 2)
        for votes in zip(one, other, strict=True)
    ]
    assert len(agreed) == 3 * 939
    assert sum(agreed) / len(agreed) == pytest.approx(0.92, abs=0.01)


def test_every_pair_of_hh_is_taken_or_left_out_for_a_reason(store):
    report = take(store, "hh_harmless_base_test.jsonl.gz", "hh")
    assert (report.read, report.new, report.known, report.malformed_lines) == (2_312, 2_299, 0, 0)
    assert sum(report.skipped.values()) == 13
    assert store.verify() == []


@pytest.mark.parametrize(
    ("name", "rows"), [("natural", 100), ("adversarial_neighbor", 134), ("adversarial_gptinst", 92)]
)
def test_llmbar_is_a_table_whose_columns_are_named(store, name, rows):
    report = take(store, f"llmbar_{name}.json", "table", LLMBAR, "llmbar")
    assert (report.read, report.new, report.malformed_lines) == (rows, rows, 0)
