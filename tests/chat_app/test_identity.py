"""A caller is named by a token or a signed cookie, which others cannot forge."""

from pathlib import Path

import pytest

from chat_app.errors import NotAllowedError, StartError
from chat_app.identity import COOKIE, Identity, is_this_machine


def test_a_token_is_one_rater_in_this_service_and_another_in_another(tmp_path: Path) -> None:
    here, again = Identity(tmp_path / "a"), Identity(tmp_path / "a")
    elsewhere = Identity(tmp_path / "b")
    ids = [i.caller({"authorization": "Bearer t"}, {}).rater_id for i in (here, again, elsewhere)]
    assert ids[0] == ids[1] != ids[2]
    assert here.caller({"authorization": "bearer u"}, {}).rater_id not in ids


def test_only_cookies_that_this_service_signed_are_accepted(tmp_path: Path) -> None:
    here, elsewhere = Identity(tmp_path / "a"), Identity(tmp_path / "b")
    cookie = here.new_cookie()
    assert here.caller({}, {COOKIE: cookie}).by == "cookie"
    assert elsewhere.caller({}, {COOKIE: cookie}).by == "anonymous"
    assert here.caller({}, {COOKIE: cookie[:-10] + cookie[-9:]}).by == "anonymous"
    assert here.caller({"authorization": "Bearer t"}, {COOKIE: cookie}).by == "token"


def test_there_are_no_anonymous_visitors_from_other_machines(tmp_path: Path) -> None:
    public = Identity(tmp_path, anonymous=False)
    with pytest.raises(NotAllowedError, match="Authorization"):
        public.caller({}, {})
    assert public.caller({"authorization": "Bearer t"}, {}).by == "token"


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("localhost", True),
        ("example.org", False),
        (None, False),
    ],
)
def test_only_loopback_addresses_are_this_machine(host: str | None, here: bool) -> None:
    assert is_this_machine(host) is here


def test_the_operators_token_is_kept_and_compared_exactly(tmp_path: Path) -> None:
    token = Identity(tmp_path).operator_token
    identity = Identity(tmp_path)
    identity.require_operator(token)
    for wrong in (None, "", token + " ", "täg"):
        with pytest.raises(NotAllowedError):
            identity.require_operator(wrong)
    assert [p.stat().st_mode & 0o777 for p in sorted(tmp_path.iterdir())] == [0o600, 0o600]


def test_secrets_that_cannot_be_kept_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot keep secrets"):
        Identity(tmp_path / "file" / "secrets")
