import pytest

from chat_app.engine import Sampling
from chat_app.errors import InvalidRequestError
from chat_app.service.limits import check_sampling
from chat_app.settings import LimitSettings, Settings
from rlhf_core.config import ReplySettings


def test_a_reply_is_cut_at_the_limit_or_at_the_services_own_length():
    settings = Settings(reply=ReplySettings(tokens=600), limits=LimitSettings(new_tokens=512))
    for asked, given in ((600, 600), (601, 600), (10**30, 600), (1, 1)):
        assert check_sampling(Sampling(max_new_tokens=asked), settings).max_new_tokens == given


@pytest.mark.parametrize("asked", [0, -2])
def test_a_reply_of_no_token_is_refused_by_the_name_of_its_field(asked: int):
    with pytest.raises(InvalidRequestError, match=f"max_tokens is {asked}; send 1") as refused:
        check_sampling(Sampling(max_new_tokens=asked), Settings())
    assert refused.value.param == "max_tokens"
