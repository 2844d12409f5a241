"""Files as they come: other encodings, tables, packed files, and files that are damaged."""

import gzip
import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_store.datasets.files import Malformed, read_documents, read_whole
from feedback_store.datasets.outputs import write_lines, write_parquet
from feedback_store.errors import InvalidFeedbackError

ROWS = [{"q": "Größe?", "n": 1}, {"q": "zwei\nZeilen", "n": 2}, {"q": "三", "n": 3}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def read(path):
    return [document for _, document in read_documents(path)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.JSONL", "A.JSONL.GZ", "a.json.Gz", "a"])
def test_text_is_read_in_any_unicode_encoding_packed_or_not(tmp_path, encoding, name):
    data = LINES.encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(data, mtime=0) if "gz" in name.lower() else data)
    assert read(tmp_path / name) == ROWS


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        json.dumps({"data": ROWS}),
        "\n \n" + json.dumps({"version": 1, "data": ROWS}, indent=1),
        json.dumps({"data": ROWS}) + "\n",
    ],
)
def test_a_list_and_an_object_with_a_list_of_data_are_its_rows(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert read(tmp_path / "a.json") == ROWS


def test_data_that_is_no_list_of_rows_belongs_to_its_line(tmp_path):
    rows = [{"data": {"rating": 1}}, {"data": [1]}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read(tmp_path / "a.jsonl") == rows


@pytest.mark.parametrize(
    ("name", "sign"), [("a.csv", ","), ("a.CSV", ";"), ("a.tsv", "\t"), ("a.csv.gz", ",")]
)
def test_a_table_is_read_by_the_names_in_its_first_line(tmp_path, name, sign):
    text = f'\ufeffq{sign}n\r\n"a{sign} ""b""\nc"{sign}1\r\nd{sign}\r\ne\r\n'
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith("gz") else data)
    found = list(read_documents(tmp_path / name))
    assert found[:2] == [(2, {"q": f'a{sign} "b"\nc', "n": "1"}), (4, {"q": "d", "n": ""})]
    assert found[2] == (5, Malformed("1 fields, but the first line names 2"))


def test_a_reply_in_csv_may_be_longer_than_the_reader_usually_takes(tmp_path):
    (tmp_path / "a.csv").write_text("q,n\n" + "x" * 200_000 + ",1\n")
    assert len(read(tmp_path / "a.csv")[0]["q"]) == 200_000


def test_numbers_that_are_none_are_null_and_times_are_texts(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": NaN}')
    time = datetime(2023, 2, 6, tzinfo=UTC)
    table = pa.Table.from_pylist([{"x": float("nan"), "at": time, "deep": [{"y": float("nan")}]}])
    pq.write_table(table, tmp_path / "named wrongly.txt")
    assert read(tmp_path / "a.jsonl") == [{"x": None}]
    (row,) = read(tmp_path / "named wrongly.txt")
    assert row == {"x": None, "at": "2023-02-06T00:00:00+00:00", "deep": [{"y": None}]}


MANY = "".join(json.dumps({"n": n}) + "\n" for n in range(5_000)).encode()


def broken(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidFeedbackError) as caught:
        read_whole(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.jsonl.gz", gzip.compress(MANY, mtime=0)[:-30], "damaged from here on"),
        ("a.jsonl.gz", gzip.compress(MANY, mtime=0)[:-3] + b"xyz", "damaged from here on"),
        ("a.jsonl", MANY + '{"x": "Größe"}'.encode("latin-1"), "a.jsonl:5001: not UTF-8"),
        ("a.jsonl", LINES.encode("utf-16")[:-1], "a.jsonl:3: not utf-16"),
        ("a.csv", b'q,n\n1,2\n"x', "a.csv:3: not CSV"),
        ("a.json", b'[{"x": 1},\n{"x": }]', "a.json:2: this begins like"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.parquet", b"PAR1" + b"x" * 100, "as Parquet"),
        ("a.parquet", b"{}", "as Parquet"),
        ("a.zip", b"PK\x03\x04" + b"x" * 100, "packed by zip"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_damaged_file_is_refused_with_its_name_and_line(tmp_path, name, data, says):
    assert says in broken(tmp_path, name, data)


def test_damage_anywhere_is_found_before_the_first_row_is_given(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(MANY, mtime=0)[:-30])
    assert next(read_documents(path)) == (1, {"n": 0})
    with pytest.raises(InvalidFeedbackError):
        read_whole(path)


@given(st.binary(max_size=200), st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.parquet"]))
def test_any_bytes_are_rows_malformed_rows_or_one_clear_refusal(tmp_path_factory, data, name):
    path = tmp_path_factory.mktemp("files") / name
    path.write_bytes(data)
    try:
        for number, document in read_whole(path):
            assert number > 0
            if not isinstance(document, Malformed):
                json.dumps(document)
    except InvalidFeedbackError as exc:
        assert "\n" not in str(exc) and name in str(exc)


@given(st.integers(0, 400), st.booleans())
def test_a_packed_file_that_is_cut_anywhere_is_refused(tmp_path_factory, at, flipped):
    packed = bytearray(gzip.compress(LINES.encode() * 20, mtime=0))
    at %= len(packed) - 18
    data = packed[: 18 + at]
    if flipped:
        data = packed[:]
        data[10 + at] ^= 0xFF
    path = tmp_path_factory.mktemp("files") / "a.jsonl.gz"
    path.write_bytes(bytes(data))
    with pytest.raises(InvalidFeedbackError, match=r"a\.jsonl\.gz"):
        read_whole(path)


def test_what_is_written_has_no_number_that_is_none(tmp_path):
    row = {"prompt": [], "weight": float("nan"), "strength": float("inf")}
    write_lines(tmp_path / "a.jsonl.gz", [row, {"weight": 1.5}], packed=True)
    write_parquet(tmp_path / "a.parquet", [row], ("prompt", "weight", "strength"))
    empty = {"prompt": [], "weight": None, "strength": None}
    assert read(tmp_path / "a.jsonl.gz") == [empty, {"weight": 1.5}]
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [empty]
