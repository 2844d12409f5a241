"""Keys: made once, found by their text alone, and gone from the moment they are revoked."""

import json

import pytest

from feedback_store import ConflictError, InvalidFeedbackError, UnknownRecordError
from feedback_store.raters.keys import is_key


def test_a_key_is_found_by_its_text_until_it_is_revoked(store):
    key, text = store.make_key("ann", role="labeler", gateway=True, by="operator")
    assert is_key(text) and not is_key("fc-barcelona")
    assert store.key_of(text) == store.key_in_use(key.id) == key
    assert (key.role, key.gateway, key.used_on, key.revoked_at) == ("labeler", True, None, None)
    assert store.key_of(text[:-1] + ("A" if text[-1] != "A" else "B")) is None
    ended = store.revoke_key("ann", by="operator")
    assert store.key_of(text) is store.key_in_use(key.id) is None
    assert store.keys() == [ended] and ended.revoked_at is not None


def test_the_text_of_a_key_is_in_no_file(store, path):
    _, text = store.make_key("ann", by="operator")
    store.compact()
    files = [file for file in path.parent.iterdir() if file.is_file()]
    assert path in files
    assert not [file for file in files if text.encode() in file.read_bytes()]


def test_a_gateway_is_no_operator(store):
    with pytest.raises(InvalidFeedbackError, match="persons, who are no operators"):
        store.make_key("portal", role="operator", gateway=True, by="operator")


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: f"{text}x"])
def test_a_key_with_a_slip_is_meant_as_a_key(store, change):
    _, text = store.make_key("ann", by="operator")
    assert is_key(change(text)) and store.key_of(change(text)) is None


def test_a_name_is_given_again_only_after_its_key_was_revoked(store):
    store.make_key("ann", by="operator")
    with pytest.raises(ConflictError, match="'ann' is in use"):
        store.make_key("ann", by="operator")
    store.revoke_key("ann", by="operator")
    _, text = store.make_key("ann", by="operator")
    assert store.key_of(text) is not None and len(store.keys()) == 2
    with pytest.raises(UnknownRecordError, match="no key 'bob' is in use"):
        store.revoke_key("bob", by="operator")


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "a/b"])
def test_a_name_that_could_be_mistaken_is_refused(store, name):
    with pytest.raises(InvalidFeedbackError, match="a key cannot be named"):
        store.make_key(name, by="operator")


def test_the_last_day_of_use_is_noted_by_one_write_a_day(store):
    key, text = store.make_key("ann", by="operator")
    store.note_use(key)
    used = store.key_of(text)
    assert used.used_on is not None and used.used_on >= key.created_at[:10]
    with store._file.read() as db:
        before = db.execute("PRAGMA data_version").fetchone()
    store.note_use(used)
    with store._file.read() as db:
        assert db.execute("PRAGMA data_version").fetchone() == before


def test_the_audit_log_says_who_made_and_revoked_a_key(store):
    store.make_key("ann", role="labeler", by="operator")
    store.revoke_key("ann", by="operator")
    store.note_act("login", by="key bob")
    with store._file.read() as db:
        found = db.execute("SELECT action, detail FROM audit ORDER BY id").fetchall()
    acts = [(action, json.loads(detail)) for action, detail in found]
    made = {"name": "ann", "role": "labeler", "gateway": False, "by": "operator"}
    assert acts == [
        ("key_made", made),
        ("key_revoked", {"name": "ann", "by": "operator"}),
        ("login", {"by": "key bob"}),
    ]
