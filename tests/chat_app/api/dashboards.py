"""What the files in `deploy` ask Prometheus for."""

import json
import re
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).parents[3] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "feedback-chat.json"
RULES = DEPLOY / "prometheus" / "rules.yml"
METRIC = re.compile(r"\bfeedback_chat_\w+")


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, the rows' headings left out."""
    dashboard = json.loads(DASHBOARD.read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions() -> dict[str, str]:
    """What each panel asks for, by its title and the letter of the question."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel["targets"]
    }


def names_in(text: str) -> set[str]:
    """The metrics that a text asks for."""
    return set(METRIC.findall(text))


def samples_of(metrics: str) -> dict[str, float]:
    """The samples of an answer of `/metrics`, by name and labels."""
    lines = (line for line in metrics.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
