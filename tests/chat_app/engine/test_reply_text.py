"""Text that was given out while tokens arrive never changes and is never broken."""

from hypothesis import given
from hypothesis import strategies as st

from chat_app.engine.reply_text import ReplyText


def decode_bytes(ids: list[int]) -> str:
    return bytes(ids).decode("utf-8", errors="replace")


@given(st.text())
def test_pieces_join_to_the_whole_text_without_broken_characters(text: str) -> None:
    stream, data, pieces = ReplyText(decode_bytes), list(text.encode()), []
    for count in range(len(data) + 1):
        pieces.append(stream.take(data[:count]))
    pieces.append(stream.take(data, final=True))
    assert "".join(pieces) == text.rstrip("\ufffd")
    assert not any("\ufffd" in piece for piece in pieces) or "\ufffd" in text


def test_a_character_cut_by_the_length_limit_is_left_out() -> None:
    stream = ReplyText(decode_bytes)
    assert stream.take(list("é".encode())[:1]) == ""
    assert stream.take(list("aé".encode())[:2], final=True) == "a"


def test_spaces_wait_for_what_follows() -> None:
    stream = ReplyText(decode_bytes)
    assert stream.take(list(b"so ")) == "so"
    assert stream.take(list(b"so what")) == " what"


@given(st.text("abL. "), st.lists(st.text("abL. ", min_size=1, max_size=4), max_size=4))
def test_a_reply_ends_before_the_first_stop_text_however_its_pieces_are_cut(
    text: str, stop: list[str]
) -> None:
    stream, data, given_out = ReplyText(decode_bytes, stop), list(text.encode()), ""
    written = [text[:end] for end in range(len(text) + 1)]
    first = next((part for part in written if any(one in part for one in stop)), None)
    whole = (
        text if first is None else first[: min(first.index(one) for one in stop if one in first)]
    )
    for count in range(len(data) + 1):
        if stream.stops(data[:count]):
            data = data[:count]
            break
        given_out += stream.take(data[:count])
        assert whole.startswith(given_out)
    assert given_out + stream.take(data, final=True) == whole


def test_what_may_become_a_stop_text_waits_and_comes_when_it_does_not() -> None:
    stream = ReplyText(decode_bytes, ["END", "\n\nUser:"])
    assert stream.take(list(b"the E")) == "the"
    assert stream.take(list(b"the EN")) == ""
    assert stream.take(list(b"the ENd\n\nUs")) == " ENd"
    assert not stream.stops(list(b"the ENd\n\nUs"))
    assert stream.stops(list(b"the ENd\n\nUser: more"))
    assert stream.take(list(b"the ENd\n\nUser: more"), final=True) == ""
