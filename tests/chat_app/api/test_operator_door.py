"""Who gets in as an operator, who has to wait, and when a session ends."""

from pathlib import Path

import fastapi
import pytest
from fastapi.testclient import TestClient

from chat_app.api.operator_door import TRIES, OperatorDoor
from chat_app.errors import NotAllowedError, TooManyError
from chat_app.identity import Identity
from chat_app.pages.login import add_login


@pytest.fixture
def door(tmp_path: Path) -> OperatorDoor:
    return OperatorDoor(Identity(tmp_path / "secrets", operator_token="right"))


def test_the_door_opens_for_the_token_and_its_cookie_only(
    door: OperatorDoor, tmp_path: Path
) -> None:
    name = Identity(tmp_path / "secrets").operator_cookie
    cookie = door.cookie("right", "here")
    assert door.is_open({}, {name: cookie})
    assert door.is_open({"authorization": "Bearer right"}, {})
    assert not door.is_open({}, {})
    assert not door.is_open({"authorization": "Bearer wrong"}, {name: cookie[:-1]})
    changed = OperatorDoor(Identity(tmp_path / "secrets", operator_token="new"))
    assert not changed.is_open({}, {name: cookie})
    with pytest.raises(NotAllowedError):
        door.cookie("wrong", "here")


def test_a_session_ends_when_the_operator_logs_out(door: OperatorDoor, tmp_path: Path) -> None:
    name = Identity(tmp_path / "secrets").operator_cookie
    one, other = door.cookie("right", "here"), door.cookie("right", "here")
    door.close({name: one})
    assert not door.is_open({}, {name: one}) and door.is_open({}, {name: other})


def test_an_address_with_too_many_wrong_tokens_waits_also_with_the_right_one(
    door: OperatorDoor,
) -> None:
    for _ in range(TRIES):
        with pytest.raises(NotAllowedError):
            door.require("wrong", "203.0.113.9")
    for token in ("wrong", "right"):
        with pytest.raises(TooManyError, match="wrong tokens from your address; try again in"):
            door.require(token, "203.0.113.9")
    assert not door.is_open({"authorization": "Bearer right"}, {}, "203.0.113.9")
    door.require("right", "203.0.113.10")


def test_a_household_of_ipv6_has_the_same_few_tries(door: OperatorDoor) -> None:
    for number in range(TRIES):
        with pytest.raises(NotAllowedError):
            door.require("wrong", f"2001:db8::{number}")
    with pytest.raises(TooManyError):
        door.require("wrong", "2001:db8::ffff")


def test_a_page_of_others_cannot_have_the_operator_wait(door: OperatorDoor, tmp_path: Path) -> None:
    app, name = fastapi.FastAPI(), Identity(tmp_path / "secrets").operator_cookie
    add_login(app, door, name)
    picture = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "image"}
    with TestClient(app) as client:
        for _ in range(2 * TRIES):
            client.get("/operator?token=bad", headers=picture, follow_redirects=False)
        right = client.get("/operator?token=right", follow_redirects=False)
    assert right.headers["location"] == "/operator/"


def test_a_wrong_token_is_called_wrong_and_leaves_the_address(
    door: OperatorDoor, tmp_path: Path
) -> None:
    app, name = fastapi.FastAPI(), Identity(tmp_path / "secrets").operator_cookie
    add_login(app, door, name)
    with TestClient(app) as client:
        for answer in (
            client.get("/operator?token=bad"),
            client.post("/operator/login", data={"token": "bad"}),
        ):
            assert (
                answer.status_code == 403
                and "That is no token or key of an operator" in answer.text
            )
            assert 'name="token"' in answer.text and "bad" not in str(answer.url)
        assert "wrong" not in client.get("/operator/login").text
        right = client.get("/operator?token=right", follow_redirects=False)
        assert right.headers["location"] == "/operator/" and name in right.cookies
        out = client.post("/operator/logout", follow_redirects=False)
        assert not door.is_open({}, {name: right.cookies[name]})
        assert f'{name}=""' in out.headers["set-cookie"]
        for _ in range(TRIES):
            client.get("/operator?token=bad")
        late = client.get("/operator?token=right")
    assert late.status_code == 429 and "Try again in" in late.text and "right" not in str(late.url)
