import re
import uuid
from concurrent.futures import ThreadPoolExecutor

from feedback_store.sqlite.ids import new_id, utc_now


def test_ids_are_version_7_and_grow():
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert {(uuid.UUID(text).version, uuid.UUID(text).variant) for text in ids} == {
        (7, uuid.RFC_4122)
    }


def test_ids_made_by_threads_are_all_different():
    with ThreadPoolExecutor(4) as pool:
        ids = [
            i for made in pool.map(lambda _: [new_id() for _ in range(500)], range(4)) for i in made
        ]
    assert len(set(ids)) == 2000


def test_times_are_utc_with_milliseconds():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", utc_now())
