"""Which model a command uses, and whether it exists, before anything heavy is loaded.

Without the check, an unknown name would cause retries for most of a minute where there is no
network. This module downloads and loads nothing.
"""

import re
from pathlib import Path
from typing import Any

from chat_app.commands.adapters import open_store
from chat_app.errors import InvalidRequestError, RefusedError, StartError
from chat_app.profile import with_profile
from chat_app.settings import Settings, load_settings
from feedback_store.errors import FeedbackStoreError
from feedback_store.store import FeedbackStore
from rlhf_core.model.sources import resolve

TIMEOUT_S = 10.0
CONFIGS = ("config.json", "adapter_config.json")  # one of them is in the hub's cache
# What a model's directory needs, and the names of such files.
PARTS = {
    "config.json": re.compile(r"^config\.json$"),
    "a tokenizer (tokenizer.json)": re.compile(r"^(tokenizer|vocab)|\.model$"),
    "weights (model.safetensors)": re.compile(r"\.(safetensors|bin)$"),
}


def settings_of_model(config: Path | None, **flags: Any) -> Settings:
    """The settings of a command that uses the model; votes and adapters belong to one model.

    Where nobody names a model, it is the one that the last server of the data directory answered
    with, so that `--model` is given once.

    Raises:
        InvalidRequestError: As for `load_settings`.
    """
    settings = load_settings(config, **flags)
    if "model" in settings.model_fields_set or not settings.database.is_file():
        return settings
    try:
        with FeedbackStore(settings.database, allow_old_sqlite=settings.allow_old_sqlite) as store:
            answered = store.base()
    except FeedbackStoreError:
        return settings  # the command itself says what is wrong with the store
    if answered is None:
        return settings
    return settings.model_copy(update={"model": answered.model})


def resolved(settings: Settings) -> Settings:
    """The settings with the profile's values, once it is known that the model exists.

    Raises:
        StartError: As for `require_model`.
        ModelError: As for `require_model` and `with_profile`.
        InvalidInputError: As for `with_profile`.
        InvalidRequestError: As for `with_profile`.
    """
    require_model(settings.model, settings.models)
    return with_profile(settings)


def require_contract(settings: Settings) -> None:
    """Refuse resolved settings under which replies are not those that the server gives.

    Raises:
        RefusedError: The last server of the data directory answered under another contract.
    """
    with open_store(settings) as store:
        served = store.base()
    if served is None:
        return
    for option, value in settings.contract.items():
        before = served.contract.get(option, value)
        if before != value:
            raise RefusedError(
                f"the server of {settings.data} answers with {option} {before!r}, and this command "
                f"would use {value!r}; give it the server's --profile, --quantization and "
                "configuration, or start the server with these first"
            )


def require_model(model: str, models: Path) -> None:
    """Refuse a model that is not here, not in the hub's cache and not on the hub.

    Args:
        model: A name as `load_base` takes it; of an adapter, its base is looked for, too.
        models: The directory of fetched models.

    Raises:
        InvalidRequestError: It can only be a path, and nothing is there.
        StartError: There is no such model, or its directory lacks something.
        ModelError: It is a file or an adapter that cannot be used.
    """
    source = resolve(model, models)
    source = source.base or source
    if source.kind == "directory":
        _require_parts(source.place)
    if source.kind == "hub":
        _require_known(source.place)


def _require_parts(model: str) -> None:
    files = [file.name for file in Path(model).iterdir()]
    missing = [part for part, names in PARTS.items() if not any(map(names.search, files))]
    if missing:
        raise StartError(
            f"the directory {model!r} is not a model, it lacks {', '.join(missing)}; give one "
            "that `save_pretrained` of model and tokenizer wrote, `starter`, or a model's id"
        )


def _require_known(model: str) -> None:
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        if not any(try_to_load_from_cache(model, name) for name in CONFIGS):
            HfApi().model_info(model, timeout=TIMEOUT_S)
    except HFValidationError as exc:  # no id of the hub, so it can only be a path
        raise InvalidRequestError(_unknown(model, "no id of the hub")) from exc
    except HfHubHTTPError as exc:
        raise StartError(_unknown(model, "not on the hub")) from exc
    except OSError as exc:
        raise StartError(_unknown(model, "the hub cannot be reached")) from exc
    except Exception as exc:  # the hub client's network errors have no common base class
        failed = f"the request to the hub failed ({type(exc).__name__})"
        raise StartError(_unknown(model, failed)) from exc


def _unknown(model: str, why: str) -> str:
    return (
        f"model {model!r} is not a directory, not in the cache, and {why}; "
        "give `starter`, `smollm2`, a .gguf file, a model's directory or its id"
    )
