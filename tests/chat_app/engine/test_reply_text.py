"""Text that was given out while tokens arrive never changes and is never broken."""

from hypothesis import given
from hypothesis import strategies as st

from chat_app.engine.local import ReplyText


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
