"""A report is read as far as it is well-formed."""

import json
import math
from pathlib import Path

from chat_app.handlers.report import read_report


def test_a_report_is_read_as_far_as_it_is_well_formed(tmp_path: Path) -> None:
    assert read_report(tmp_path, 1) is None
    directory = tmp_path / "cycles" / "000001"
    directory.mkdir(parents=True)
    for broken in ("", "[1]", "{"):
        (directory / "report.json").write_text(broken)
        assert read_report(tmp_path, 1) is None
    content = {
        "metrics": {"win_rate": 0.8, "note": "x"},
        "checks": [{"name": "kl", "value": 1, "passed": "yes"}, 3],
        "plots": {"scores_served": [1, math.nan, "x"]},
        "alarms": [{"kind": "kl", "text": "the KL is large", "value": 0.9}, "x"],
    }
    (directory / "report.json").write_text(json.dumps(content))
    report = read_report(tmp_path, 1)
    assert report is not None and report.metrics == {"win_rate": 0.8}
    assert report.alarms == ("the KL is large",)
    (check,) = report.checks
    assert (check.name, check.value, check.limit, check.passed) == ("kl", 1.0, None, False)
    assert report.scores_served[0] == 1.0 and len(report.scores_served) == 2
