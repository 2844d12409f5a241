"""The settings with a profile's values: what `serve`, `cycle` and `plan` use is the same.

What an operator set stays; the rest follows from the model's sizes and the machine, so that any
model works without settings of its own.
"""

from chat_app.errors import InvalidRequestError
from chat_app.settings import Settings
from rlhf_core.config import CycleSettings
from rlhf_core.errors import InvalidInputError


def with_profile(settings: Settings) -> Settings:
    """The settings as they will be used; loads no weights, unless it has to convert a file.

    Raises:
        ModelError: The model's configuration cannot be read.
        InvalidInputError: The profile needs another machine.
        InvalidRequestError: Options of the cycle do not go together.
    """
    used = _filled(settings)
    try:
        used.cycle.require_fit()
    except InvalidInputError as exc:
        raise InvalidRequestError(
            f"{exc} (options of the cycle; those that nobody set are of the profile {used.profile})"
        ) from exc
    return used


def _filled(settings: Settings) -> Settings:
    if settings.is_starter and settings.profile in ("auto", "starter"):
        quantization = "nf4" if settings.quantization == "auto" else settings.quantization
        update = {"profile": "starter", "quantization": quantization, "cycle": _tried_out(settings)}
        return settings.model_copy(update=update)

    from rlhf_core.model.facts import machine_facts, model_facts
    from rlhf_core.training.profiles import fill, profile_for

    profile = profile_for(settings.profile, model_facts(model_path(settings)), machine_facts())
    engine = {"threads": profile.threads}
    if settings.engine.kind == "local":  # other machines than this one have other room
        engine["rows"] = profile.rows
    cycle = {"threads": profile.threads, **profile.cycle}
    auto = settings.quantization == "auto"
    return settings.model_copy(
        update={
            "profile": profile.name,
            "quantization": profile.quantization if auto else settings.quantization,
            "engine": fill(settings.engine, engine),
            "reply": fill(settings.reply, profile.reply),
            "cycle": fill(settings.cycle, cycle),
        }
    )


def _tried_out(settings: Settings) -> CycleSettings:
    """The starter shows the loop: its simulated visitors count beside whoever tries it out.

    All three options or none: an operator who names programs has not let them decide.
    """
    counted = {"programs": ("simulated",), "programs_share": 1.0, "programs_decide": True}
    data = settings.cycle.data
    if data.model_fields_set & counted.keys():
        return settings.cycle
    return settings.cycle.model_copy(update={"data": data.model_copy(update=counted)})


def model_path(settings: Settings) -> str:
    """What transformers reads the model from: a directory, or its name on a hub.

    Raises:
        ModelError: It cannot be found or converted.
    """
    from rlhf_core.model.conversions import loadable
    from rlhf_core.model.sources import resolve

    return loadable(resolve(settings.model, settings.models), settings.models)
