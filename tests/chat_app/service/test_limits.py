import pytest

from chat_app.engine import Sampling
from chat_app.errors import InvalidRequestError
from chat_app.service.limits import check_sampling
from chat_app.settings import LimitSettings, Settings
from rlhf_core.config import ReplySettings


def test_the_services_own_length_is_always_allowed():
    settings = Settings(reply=ReplySettings(tokens=600), limits=LimitSettings(new_tokens=512))
    assert check_sampling(Sampling(max_new_tokens=600), settings).max_new_tokens == 600
    with pytest.raises(InvalidRequestError, match="max_tokens 601 is not from 1 to 600"):
        check_sampling(Sampling(max_new_tokens=601), settings)
