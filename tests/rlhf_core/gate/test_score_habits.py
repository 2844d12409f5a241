import random
from dataclasses import replace

import pytest

from rlhf_core.gate.score_habits import measure_habits, style_coefficients
from rlhf_core.records import Comparison


@pytest.fixture
def votes(said):
    """Votes for the reply with more line breaks; lengths are drawn without regard to that."""
    rng = random.Random(0)
    found = []
    for number in range(60):
        one, other = (
            " ".join("red" for _ in range(rng.randrange(1, 5))) + "\n" * breaks
            for breaks in rng.sample(range(3), 2)
        )
        label = "a" if one.count("\n") > other.count("\n") else "b"
        versions = ("policy-000001", rng.choice(("policy-000001", "policy-000002")))
        found.append(Comparison(said(f"what is {number}"), one, other, label, versions=versions))
    return found


def of_length(base):
    return lambda prompts, texts: [float(len(base.chat.cut_reply(text))) for text in texts]


def test_a_score_of_length_alone_has_the_length_coefficient_of_about_one(base, votes):
    length, newline = style_coefficients(base.chat, of_length(base), votes)
    assert length == pytest.approx(1.0, abs=0.1) and abs(newline) < 0.1


def test_a_score_that_only_differs_between_prompts_likes_no_style(base, votes):
    """Here long replies are to prompts that score high, but on none of them is longer better."""
    by_prompt = [
        replace(c, response_a="red " * (i % 4) + "yes", response_b="red " * (i % 4) + "no")
        for i, c in enumerate(votes)
    ]

    def score(prompts, texts):
        return [float(text.count("red")) for text in texts]

    assert style_coefficients(base.chat, score, by_prompt) == (0.0, 0.0)


def test_the_report_tells_line_breaks_from_length(base, votes):
    def breaks(prompts, texts):
        return [float(text.count("\n")) for text in texts]

    found = measure_habits(base.chat, breaks, votes[:30], votes[30:])
    for name in ("reward/", "reward/held_out_"):
        assert found[f"{name}newline_coefficient"] > 0.5
        assert abs(found[f"{name}length_coefficient"]) < found[f"{name}newline_coefficient"]
    # these votes are for line breaks: length alone predicts them less well
    assert 0.3 < found["reward/accuracy_length_only"] < 1
    assert {
        found[f"reward/accuracy_by_length/{third}"] for third in ("short", "middle", "long")
    } == {1}
    versions = {name for name in found if "by_version" in name}
    assert versions == {f"reward/accuracy_by_version/{v}" for v in ("policy-000001", "mixed")}


def test_length_alone_predicts_as_training_votes_say(base, said):
    shorter = [Comparison(said(f"what is {i}"), "red", "red red", "a") for i in range(12)]
    found = measure_habits(base.chat, of_length(base), shorter, shorter)
    assert found["reward/accuracy_length_only"] == 1
    longer = [c.swap() for c in shorter]
    assert measure_habits(base.chat, of_length(base), longer, longer) == found
    other = [replace(c, label="b") for c in shorter]
    assert (
        measure_habits(base.chat, of_length(base), shorter, other)["reward/accuracy_length_only"]
        == 0
    )


def test_without_votes_there_are_no_groups(base):
    found = measure_habits(base.chat, of_length(base), [], [])
    assert not [name for name in found if "_by_" in name]
    assert found["reward/accuracy_length_only"] == 0.5
