import pytest

from rlhf_core.errors import InvalidInputError, RLHFError
from rlhf_core.records import Comparison, Demonstration, Unpaired, require_prompt

ASKED = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    "prompt",
    ["Hello", [], None, ["Hello"], [{"role": "user"}], [{"role": "user", "content": None}], 3],
)
def test_a_prompt_that_is_not_a_conversation_is_refused_in_one_line(prompt):
    for build in (
        lambda: require_prompt(prompt),
        lambda: Demonstration(prompt, "Hi"),
        lambda: Comparison(prompt, "x", "y", "a"),
        lambda: Unpaired(prompt, "x", True, "rater"),
    ):
        with pytest.raises(InvalidInputError, match="a prompt cannot be") as found:
            build()
        assert "\n" not in str(found.value)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf")])
def test_a_negative_or_infinite_weight_is_refused(weight):
    with pytest.raises(InvalidInputError, match="a weight cannot be"):
        Comparison(ASKED, "x", "y", "a", weight=weight)
    with pytest.raises(InvalidInputError, match="a weight cannot be"):
        Unpaired(ASKED, "x", True, "rater", weight=weight)


def test_an_unknown_label_is_refused():
    with pytest.raises(InvalidInputError, match="a label cannot be 'c'; use 'a', 'b' or 'tie'"):
        Comparison(ASKED, "x", "y", "c")


def test_a_tie_that_could_not_tie_is_refused():
    with pytest.raises(RLHFError, match="set could_tie"):
        Comparison(ASKED, "x", "y", "tie", could_tie=False)


@pytest.mark.parametrize("label", ["a", "b", "tie"])
def test_a_comparison_swapped_twice_is_itself(label):
    raters = ("one", "other") if label != "tie" else None
    comparison = Comparison(ASKED, "x", "y", label, raters=raters)
    assert comparison.swap() != comparison or label == "tie"
    assert comparison.swap().swap() == comparison
