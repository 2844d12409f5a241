"""Settings in force: every option with its value, and where that comes from; secrets are hidden."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from chat_app.handlers.operate.guarded import require
from chat_app.service.chat import ChatService
from chat_app.settings import Settings


@dataclass(frozen=True, slots=True)
class Option:
    """One option in force.

    `source` is "flag", "environment", "file", "profile" (of the model) or "default". A secret's
    value is None; `is_set` says whether it has one.
    """

    name: str
    value: str | None
    source: str
    secret: bool
    is_set: bool
    meaning: str


@dataclass(frozen=True, slots=True)
class OptionsView:
    """All options, and the file that was read, if there is one."""

    options: tuple[Option, ...]
    file: str | None
    profile: str


class InForce:
    """The settings that the server runs with; sources are read once, when it starts."""

    def __init__(self, service: ChatService) -> None:
        settings = service.settings
        file = settings.toml_file
        is_read = file is not None and file.is_file()
        self._view = OptionsView(
            tuple(options_of(settings)), str(file) if is_read else None, settings.profile
        )

    def options(self, *, allowed: bool) -> OptionsView:
        """All options."""
        require(allowed)
        return self._view


def options_of(settings: Settings) -> Iterator[Option]:
    """Every option of the settings, with its source."""
    cls = type(settings)
    env = EnvSettingsSource(cls)()
    file = TomlConfigSettingsSource(cls, cls.toml_file)()
    flags: dict[str, Any] = {}
    for flag in cls.flags:
        section, _, option = flag.rpartition(".")
        (flags.setdefault(section, {}) if section else flags)[option] = True
    given = {"flag": flags, "environment": env, "file": file}
    yield from _options(settings, "", given)


def _options(section: BaseModel, prefix: str, given: Mapping[str, Any]) -> Iterator[Option]:
    for name, field in type(section).model_fields.items():
        value, below = (
            getattr(section, name),
            {source: _of(of, name) for source, of in given.items()},
        )
        if isinstance(value, BaseModel):
            yield from _options(value, f"{prefix}{name}.", below)
            continue
        named = next((source for source, found in below.items() if found is not None), None)
        unset = "default" if value == field.default else "profile"
        secret = isinstance(value, SecretStr) or "SecretStr" in str(field.annotation)
        yield Option(
            name=f"{prefix}{name}",
            value=None if secret else _told(value),
            source=named or unset,
            secret=secret,
            is_set=value is not None,
            meaning=field.description or "",
        )


def _of(given: Any, name: str) -> Any:
    """What a source has for a name; a section that is not given has nothing."""
    if not isinstance(given, Mapping):
        return None
    return next((value for key, value in given.items() if key.lower() == name), None)


def _told(value: Any) -> str:
    """A value as the configuration file spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
