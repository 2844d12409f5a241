"""A caller is named by a token or a signed cookie, which others cannot forge."""

from pathlib import Path

import pytest

from chat_app.errors import NotAllowedError, StartError, UnknownCallerError
from chat_app.identity import (
    COOKIES,
    OLD_COOKIE,
    ORIGIN_DIGITS,
    Access,
    Identity,
    is_this_machine,
    network_of,
)


def test_a_token_is_one_rater_in_this_service_and_another_in_another(tmp_path: Path) -> None:
    here, again = Identity(tmp_path / "a"), Identity(tmp_path / "a")
    elsewhere = Identity(tmp_path / "b")
    token = {"authorization": "Bearer t"}
    ids = [i.caller(token, {}, here=True).rater_id for i in (here, again, elsewhere)]
    assert ids[0] == ids[1] != ids[2]
    assert here.caller({"authorization": "bearer u"}, {}, here=True).rater_id not in ids


def test_only_cookies_that_this_service_signed_name_a_visitor(tmp_path: Path) -> None:
    here, elsewhere = Identity(tmp_path / "a"), Identity(tmp_path / "b")
    value = here.new_cookie()
    rater_id = here.visitor({here.cookie: value})
    assert rater_id is not None and rater_id.startswith("browser-")
    assert here.visitor({OLD_COOKIE: value}) == rater_id, "the name in earlier versions"
    assert here.visitor({here.cookie: value[:-10] + value[-9:]}) is None
    assert elsewhere.visitor({elsewhere.cookie: value}) is None
    cookies = {here.cookie: value}
    assert here.caller({}, cookies, here=True).by == "cookie"
    assert here.caller({"authorization": "Bearer t"}, cookies, here=True).by == "token"


def test_two_installations_on_one_host_use_different_cookies(tmp_path: Path) -> None:
    here, elsewhere = Identity(tmp_path / "a"), Identity(tmp_path / "b")
    names = {i.cookie for i in (here, elsewhere)} | {i.operator_cookie for i in (here, elsewhere)}
    assert len(names) == 4
    assert here.cookie == Identity(tmp_path / "a").cookie
    both = {i.cookie: i.new_cookie() for i in (here, elsewhere)}
    assert here.visitor(both) == here.visitor({here.cookie: both[here.cookie]}) is not None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("2001:db8::1", "32.1.13.184", False),
    ],
)
def test_an_address_or_a_household_of_ipv6_is_one_origin(
    tmp_path: Path, one: str, other: str, same: bool
) -> None:
    identity = Identity(tmp_path)
    origin = identity.origin(one)
    assert origin is not None and len(origin) == ORIGIN_DIGITS
    assert (identity.origin(other) == origin) is same


def test_an_origin_tells_no_address_without_the_key(tmp_path: Path) -> None:
    here, elsewhere = Identity(tmp_path / "a"), Identity(tmp_path / "b")
    assert here.origin("192.0.2.1") == Identity(tmp_path / "a").origin("192.0.2.1")
    assert here.origin("192.0.2.1") != elsewhere.origin("192.0.2.1")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "", "testclient"])
def test_this_machine_and_what_is_no_address_have_no_origin(tmp_path: Path, address: str) -> None:
    assert Identity(tmp_path).origin(address) is None


def test_a_call_may_be_anonymous_from_this_machine_alone(tmp_path: Path) -> None:
    identity, public = Identity(tmp_path), Identity(tmp_path, access=Access(anonymous=False))
    assert identity.caller({}, {"prefs": "x"}, here=True).by == "anonymous"
    other = {f"{COOKIES}_01234567": "of another installation"}
    for who, cookies, here in ((identity, {}, False), (public, {}, True), (identity, other, True)):
        with pytest.raises(UnknownCallerError, match="Authorization"):
            who.caller({}, cookies, here=here)
    assert public.caller({"authorization": "Bearer t"}, {}, here=False).by == "token"


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


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::3", "20010db800010002/64"),
        ("2001:db8:1:2:ffff::", "20010db800010002/64"),
        ("nowhere", "nowhere"),
    ],
)
def test_limits_count_a_network_of_one_household_as_one_address(address: str, network: str) -> None:
    assert network_of(address) == network
