"""Which probes a cycle asks: the model's packaged ones, and those of the operator's file."""

from pathlib import Path

from rlhf_core.config import GateSettings
from rlhf_core.gate.probes.packs import Probe, general_pack, read_pack


def probes_for(model: str, settings: GateSettings) -> tuple[Probe, ...]:
    """The probes, read before anything trains: a bad line is told at once.

    Args:
        model: As the cycle takes it; the starter has probes of its own world.
        settings: Which packs.

    Raises:
        InvalidInputError: The operator's file is no pack.
    """
    packaged: tuple[Probe, ...] = ()
    if settings.packaged_probes and model == "starter":
        from rlhf_core.worlds.starter.probes import starter_probes

        packaged = starter_probes()
    elif settings.packaged_probes:
        packaged = general_pack()
    return packaged + (read_pack(Path(settings.probes)) if settings.probes else ())
