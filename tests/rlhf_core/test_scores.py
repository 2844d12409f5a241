import numpy as np
import pytest
import torch

from rlhf_core.errors import InvalidInputError
from rlhf_core.scores import scores_of

ASKED = [[{"role": "user", "content": "Hello"}]] * 2


@pytest.mark.parametrize(
    "given", [[1, 2.5], (1, 2.5), np.array([1, 2.5]), torch.tensor([1, 2.5], dtype=torch.float64)]
)
def test_any_kind_of_numbers_will_do(given):
    found = scores_of(lambda prompts, responses: given, ASKED, ["x", "y"])
    assert found.dtype == torch.float32
    assert found.tolist() == [1.0, 2.5]


@pytest.mark.parametrize("given", [None, "ab", [None, None], [[1.0], [2.0, 3.0]]])
def test_what_is_no_number_is_refused_in_one_line(given):
    with pytest.raises(InvalidInputError, match="use one number for each response") as found:
        scores_of(lambda prompts, responses: given, ASKED, ["x", "y"])
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("given", [[1.0], [1.0] * 3, [[1.0, 2.0]], 1.0])
def test_another_number_of_scores_is_refused(given):
    with pytest.raises(InvalidInputError, match="for 2 responses; use one number for each"):
        scores_of(lambda prompts, responses: given, ASKED, ["x", "y"])
