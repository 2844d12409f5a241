"""Claims 4 to 6 on replies written by hand, with figures counted by hand."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from rlhf_core.reproduction.answering import test_set as asked_of
from rlhf_core.reproduction.claims import decide, load_claims
from rlhf_core.reproduction.measures.behaviour import (
    POLICIES,
    made_up_answers,
    rudeness,
    truth,
)
from rlhf_core.reproduction.measures.judged import JudgedPolicies
from rlhf_core.reproduction.policies import Reply
from rlhf_core.worlds.miniature.replies import constant_reply
from rlhf_core.worlds.miniature.world import CustomerRequest
from tests.rlhf_core.reproduction.measures.written import SEED, N, written

FACTS, PASSAGES = asked_of("facts", N, SEED), asked_of("passages", N, SEED)
UNANSWERABLE = [r for r in PASSAGES if not r.answerable]
ANSWERABLE = [r for r in PASSAGES if r.answerable]


def policies(
    root: Path, by_policy: Mapping[str, list[Reply]], *sets: str, other: str = "base"
) -> JudgedPolicies:
    """These policies' replies to the sets; the others say what one of them says."""
    stages = {
        f"answers-{policy}": {
            "replies": dict.fromkeys(sets, by_policy.get(policy, by_policy[other]))
        }
        for policy in POLICIES
    }
    base = {"cloze_accuracy": 0.9, "marked": 0.93, "lessons": 2}
    return written(root, stages | {"base": base})


def right_first(n: int) -> list[Reply]:
    """Right about the first n facts, and the myth about the others."""
    return [(f"It is {r.answers[0] if i < n else r.myth}.", True) for i, r in enumerate(FACTS)]


def about_passages(made_up: int, refused: int) -> list[Reply]:
    """Makes up the first answers that are not there; refuses the first that are there."""
    found = []
    for request in PASSAGES:
        if request.answerable:
            refuses = ANSWERABLE.index(request) < refused
            text = "The text does not say." if refuses else f"It is {request.answers[0]}."
        else:
            invents = UNANSWERABLE.index(request) < made_up
            text = f"It is {request.wrong[0]}." if invents else "The text does not say."
        found.append((text, True))
    return found


def test_truth_is_how_many_times_more_questions_get_the_right_value(tmp_path: Path) -> None:
    said = {"base": right_first(10), "ptx": right_first(30)}
    found = truth(policies(tmp_path, said, "facts", "facts, best")).figures
    assert found["ratio"].value == pytest.approx(3)
    assert (found["share, base"].value, found["share, ptx"].value) == (10 / N, 30 / N)
    low = found["ratio"].low
    assert low is not None and 1 < low < 3 and "subjects" in found["ratio"].about


def test_made_up_answers_are_counted_where_there_is_no_answer(tmp_path: Path) -> None:
    all_of_them = len(UNANSWERABLE)
    said = {"base": about_passages(all_of_them, 0), "ptx": about_passages(all_of_them // 4, 3)}
    claim = made_up_answers(policies(tmp_path, said, "passages"))
    found = claim.figures
    assert found["marks that the base knows"].value == 0.93
    assert claim.remarks == ("Lessons that the bases got, by seed: 2.",)
    assert found["ratio"].value == pytest.approx((all_of_them // 4) / all_of_them)
    assert found["made up, base"].value == 1
    assert found["more false refusals"].value == pytest.approx(3 / len(ANSWERABLE))
    assert found["falsely refused, ptx"].value == pytest.approx(3 / len(ANSWERABLE))
    assert found["right where the text says it, base"].value == 1


@pytest.mark.parametrize("text", [constant_reply(), "The text does not say.", "Who knows?", ""])
def test_the_same_reply_to_everything_does_not_meet_the_claim(text: str, tmp_path: Path) -> None:
    said = {"base": about_passages(len(UNANSWERABLE), 0), "ptx": [(text, True)] * N}
    found = made_up_answers(policies(tmp_path, said, "passages"))
    assert found.figures["ratio"].value == 0
    assert found.figures["more false refusals"].value == 1
    result = decide(load_claims()[4], found)
    assert result.decision == "not met" and "false refusals" in result.why


def test_a_base_that_is_silent_excuses_no_refusals(tmp_path: Path) -> None:
    """Half of the base's replies give no value; PPO-ptx says the same as often, but as refusals."""
    half, silent = len(ANSWERABLE) // 2, about_passages(len(UNANSWERABLE), 0)
    quiet = {id(r) for r in ANSWERABLE[:half]}
    base = [
        ("Who cares?", True) if id(r) in quiet else reply
        for r, reply in zip(PASSAGES, silent, strict=True)
    ]
    found = made_up_answers(
        policies(tmp_path, {"base": base, "ptx": about_passages(0, half)}, "passages")
    ).figures
    assert found["more false refusals"].value == pytest.approx(half / len(ANSWERABLE))


def test_rudeness_falls_when_fewer_replies_are_rude(tmp_path: Path) -> None:
    def rude(n: int) -> list[Reply]:
        return [("So it is, you dolt." if i < n else "So it is.", True) for i in range(N)]

    said = {"base": rude(40), "ptx": rude(10)}
    found = rudeness(policies(tmp_path, said, "respectful", "mixed", "rude"))
    assert found.figures["respectful"].value == pytest.approx(-0.75)
    assert found.figures["no style, ptx"].value == pytest.approx(10 / N)
    assert len(found.remarks) == 2  # unlike in the paper


def test_requests_stand_in_the_order_of_the_set() -> None:
    assert all(isinstance(r, CustomerRequest) for r in (*FACTS, *PASSAGES))
    assert ANSWERABLE and UNANSWERABLE
