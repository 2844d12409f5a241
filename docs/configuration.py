"""Print configuration.md: every option with its default and meaning, from the settings.

Run it as ``.venv/bin/python docs/configuration.py > docs/configuration.md``; a test compares them.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from chat_app.settings import Settings

INTRODUCTION = """\
# Configuration

All options; `docs/configuration.py` makes this page from the settings. Set an option by a flag of a
command (where there is one), by an environment variable, or in a TOML file; the first one wins.
The file is the one that `FEEDBACK_CHAT_CONFIG` names, or `config.toml` in the data directory. The
defaults fit the starter; for another model its profile has values for what nobody set
(`feedback-chat plan --model MODEL` shows them). An unknown name or a value out of range is refused
with one line. `FEEDBACK_CHAT_DEBUG=1` is not an option; it shows the tracebacks of unexpected
errors. The same options in both spellings:

```text
FEEDBACK_CHAT_PORT=8000                            port = 8000
FEEDBACK_CHAT_CYCLE__MIN_COMPARISONS=100           [cycle]
                                                   min_comparisons = 100
FEEDBACK_CHAT_HOSTS=chat.example.org,chat.local    hosts = ["chat.example.org", "chat.local"]
```
"""
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def allowed(field: FieldInfo) -> str:
    """The values that a field takes: its choices or its bounds."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    bounds = [
        f"{sign} {getattr(bound, name)}"
        for bound in field.metadata
        for name, sign in SIGNS.items()
        if hasattr(bound, name)
    ]
    return ", ".join(bounds)


def default(value: Any) -> str:
    """A default value in TOML's spelling."""
    if value is None:
        return "none"
    if value is PydanticUndefined:
        return "must be given"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, (str, Path)) else f"`{value}`"


def sections(model: type[BaseModel], name: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The model and every model nested in it, with their TOML table names."""
    yield name, model
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections(field.annotation, f"{name}.{key}".lstrip("."))
        for one in get_args(field.annotation):  # of several, each is a table
            if isinstance(one, type) and issubclass(one, BaseModel):
                yield f"[{key}]", one


def table(name: str, model: type[BaseModel]) -> str:
    """One section: its heading, its purpose, and its options."""
    rows = [
        f"| `{key}` | {default(field.default)} | {allowed(field)} | {field.description or ''} |"
        for key, field in model.model_fields.items()
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    ]
    purpose = (model.__doc__ or "").strip().splitlines()[0]
    head = [f"## {f'`[{name}]`' if name else 'Top level'}", "", purpose, ""]
    return "\n".join([*head, "| option | default | values | meaning |", "|---|---|---|---|", *rows])


def render() -> str:
    """The whole page."""
    return (
        "\n\n".join([INTRODUCTION.strip(), *(table(*part) for part in sections(Settings))]) + "\n"
    )


if __name__ == "__main__":
    sys.stdout.write(render())
