import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from feedback_store.whole_files import secret


def test_a_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path):
    path = tmp_path / "secrets" / "key"
    made = secret(path)
    assert secret(path) == made and len(made) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["key"]


def test_all_who_make_a_secret_at_once_get_the_same(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        for number in range(20):
            paths = [tmp_path / "secrets" / str(number)] * 16
            assert len({*pool.map(secret, paths)}) == 1


def test_an_empty_secret_is_refused(tmp_path):
    (tmp_path / "key").write_text("\n")
    with pytest.raises(OSError, match="key is empty"):
        secret(tmp_path / "key")
