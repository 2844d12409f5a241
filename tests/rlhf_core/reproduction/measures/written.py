"""Results of stages as the experiment keeps them, written by hand."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from rlhf_core.reproduction.measures.judged import JudgedPolicies
from rlhf_core.reproduction.policies import Reply
from rlhf_core.reproduction.profiles import CI
from rlhf_core.reproduction.stages import RESULT, ExperimentStage, KeptStages
from rlhf_core.worlds.miniature.judge import judge
from rlhf_core.worlds.miniature.replies import bad_reply, good_reply
from rlhf_core.worlds.miniature.world import CustomerRequest, requests
from tests.rlhf_core.reproduction import works

SEED, N = 7, 60
SMALL = replace(CI, test=N, ranked_prompts=80, labelers=10, segments=2, kl_coefs=(0.5,))
Write = Callable[[CustomerRequest], str]


def good(request: CustomerRequest) -> str:
    """What the good mood says; it is right, civil and in the form."""
    return good_reply(request, random.Random(request.text))


def bad(request: CustomerRequest) -> str:
    """What the bad mood says, as soon as it is worse than what the good one says."""
    best = judge(request, good(request)).gold
    drawn = (bad_reply(request, random.Random(f"{request.text}/{k}"))[0] for k in count())
    return next(text for text in drawn if judge(request, text).gold < best)


def written(
    root: Path, stages: Mapping[str, Mapping[str, Any]], seeds: Sequence[int] = (SEED,)
) -> JudgedPolicies:
    """The stages with these results, for every seed."""
    made = [ExperimentStage(name, works.count) for name in stages]
    kept = [KeptStages.of(made, SMALL, seed, root) for seed in seeds]
    for one in kept:
        for name, facts in stages.items():
            one.folder(name).mkdir(parents=True)
            (one.folder(name) / RESULT).write_text(json.dumps(facts))
    return JudgedPolicies(kept)


def replies(asked: Sequence[CustomerRequest], write: Write) -> list[Reply]:
    """A reply to each, all of them ended."""
    return [(write(request), True) for request in asked]


def samples() -> dict[str, Any]:
    """What labelers are calibrated on: replies of both moods."""
    asked = requests(SMALL.ranked_prompts, seed=SEED, split="train")
    return {"replies": [[(good(r), True), (bad(r), True)] for r in asked]}
