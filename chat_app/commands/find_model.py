"""Is there such a model? Asked before anything heavy is loaded: a typing error costs a second.

Loading an unknown name would otherwise retry for most of a minute where there is no network.
"""

from pathlib import Path

from chat_app.errors import StartError

TIMEOUT_S = 10.0


def require_model(model: str) -> None:
    """Let pass what can be loaded: the starter, a directory, a cached model, one on the hub.

    Raises:
        StartError: It is none of these.
    """
    if model == "starter" or Path(model).is_dir():
        return
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        if try_to_load_from_cache(model, "config.json") is None:
            HfApi().model_info(model, timeout=TIMEOUT_S)
    except (HFValidationError, HfHubHTTPError) as exc:
        raise _unknown(model, "the hub has none of that name") from exc
    except OSError as exc:
        raise _unknown(model, "the hub cannot be reached") from exc
    except Exception as exc:  # the hub client's own network errors are of no common kind
        raise _unknown(model, f"the hub cannot be asked ({type(exc).__name__})") from exc


def _unknown(model: str, why: str) -> StartError:
    return StartError(
        f"model {model!r} is no directory, not in the cache, and {why}; "
        "give `starter`, a model's directory or its id"
    )
