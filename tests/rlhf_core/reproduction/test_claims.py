from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.errors import InvalidInputError
from rlhf_core.reproduction.claims import (
    Bar,
    Claim,
    Figure,
    Found,
    chosen_claims,
    claims_hash,
    claims_text,
    decide,
    load_claims,
    skipped,
)

CLAIM = Claim(1, "title", "paper", "metric", "bar", (Bar("x", "low", above=0.5),))


def found(**figures: Figure) -> Found:
    return Found(figures)


def test_there_are_fourteen_claims_and_which_have_bars_is_fixed() -> None:
    claims = load_claims()
    assert [claim.number for claim in claims] == list(range(1, 15))
    assert {c.number for c in claims if c.kind == "reported"} == {3, 12, 13, 14}
    assert all(bool(claim.bars) == (claim.kind == "bar") for claim in claims)


def test_the_document_lists_every_claim_as_the_file_has_it() -> None:
    document = (Path(__file__).parents[3] / "docs" / "reproduction.md").read_text()
    for claim in load_claims():
        kind = "a bar" if claim.bars else "reported"
        assert f"| {claim.number}. {claim.title} | {claim.paper} | {kind} |" in document


def test_the_bars_of_the_first_claims_are_those_of_the_paper() -> None:
    bars = {claim.number: [str(bar) for bar in claim.bars] for claim in load_claims()}
    assert bars[1][:2] == ["win rate ≥ 0.85", "win rate (low) > 0.8"]
    assert bars[2] == ["win rate ≥ 0.71", "win rate (low) > 0.65"]
    assert bars[5][:2] == ["ratio ≤ 0.51", "ratio (high) < 0.75"]
    assert bars[8][0] == "difference ≥ -0.05 and ≤ 0.05"


def test_a_claim_is_met_when_all_its_bars_hold() -> None:
    assert decide(CLAIM, found(x=Figure(0.7, 0.6, 0.8))).decision == "met"
    missed = decide(CLAIM, found(x=Figure(0.7, 0.4, 0.9)))
    assert (missed.decision, missed.why) == ("not met", "x (low) > 0.5")


@pytest.mark.parametrize("low", [None, float("nan")])
def test_a_number_that_could_not_be_computed_meets_no_bar(low: float | None) -> None:
    assert decide(CLAIM, found(x=Figure(0.7, low, 0.9))).decision == "not met"


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_a_bar_on_the_value_is_a_comparison(value: float, limit: float) -> None:
    assert Bar("x", "value", at_least=limit).holds({"x": Figure(value)}) == (value >= limit)
    assert Bar("x", "value", below=limit).holds({"x": Figure(value)}) == (value < limit)


def test_a_bar_without_its_figure_is_an_error_and_no_verdict() -> None:
    with pytest.raises(InvalidInputError, match="lacks the figures"):
        decide(CLAIM, found(y=Figure(1.0)))


def test_a_skipped_claim_says_why() -> None:
    assert skipped(CLAIM, "not asked for").why == "not asked for"


def test_the_hash_is_of_the_whole_file() -> None:
    text = claims_text()
    assert len(claims_hash(text)) == 64 and claims_hash(text) != claims_hash(text + "\n")


def test_claims_are_those_of_the_text_that_was_read_before() -> None:
    text = claims_text().replace("at_least = 0.85", "at_least = 0.10")
    assert str(load_claims(text)[0].bars[0]) == "win rate ≥ 0.1"


def test_the_bar_on_the_ensemble_holds_the_lower_end() -> None:
    bars = {bar.figure: bar for bar in load_claims()[9].bars}
    assert bars["less fall with the ensemble"].bound == "low"


def test_claims_are_chosen_by_their_numbers() -> None:
    claims = load_claims()
    assert chosen_claims("7, 3", claims) == [3, 7]
    assert chosen_claims(None, claims) == list(range(1, 15))


@pytest.mark.parametrize("text", ["0", "15", "one", "", "1;5", "-1"])
def test_a_claim_that_there_is_not_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInputError, match="use numbers from 1 to 14, such as 1,5"):
        chosen_claims(text, load_claims())
