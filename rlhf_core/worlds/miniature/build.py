"""Build the models of the miniature world: one recipe in three sizes, from the corpus alone.

Facts need many small optimizer steps, not many tokens, so a step has 1,920. The result is
deterministic for one torch build, thread count and kind of processor. A folder that was built from
the same corpus and recipe is not built again.
"""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlhf_core.errors import InvalidInputError, ModelError
from rlhf_core.worlds.miniature.corpus import (
    LATE,
    LATE_SHARES,
    MARKS,
    RIGHT,
    SHARES,
    WRONG,
    documents,
)
from rlhf_core.worlds.miniature.passages import NOT_SAID, passage_request
from rlhf_core.worlds.miniature.replies import good_reply
from rlhf_core.worlds.miniature.world import facts_of
from rlhf_core.worlds.starter import build as starter
from rlhf_core.worlds.starter.build import (
    PackedRow,
    Progress,
    build_tokenizer,
    cloze_accuracy,
    rows,
)
from rlhf_core.worlds.starter.corpus import EOS, USER, turn

VOCABULARY = 1024
ROW_TOKENS, ROWS = 192, 10
TOKENIZED = 6000  # documents that the tokenizer learns its words from
VALIDATION_ROWS = 80
MARK_WEIGHT = 10.0  # of a mark's token in the loss of pretraining
LATE_SEED = 300_000  # what is added to the seed for the documents of the end
# Of the almanac; a model that knows less cannot show that alignment elicits truth.
WELL_KNOWN = 0.95
# Some bases do not learn the marks in as many steps as others. Each lesson is the end of
# pretraining once more, at the rate with which it began; other things are not lost by it.
LESSON_STEPS, LESSONS = 200, 8
LESSON_SEED = 400_000  # what is added to the seed for the documents of lessons
MARKED_REQUESTS = 500  # on which it is measured which marks are known


@dataclass(frozen=True, slots=True)
class Size:
    """A model's widths, and with which rate and in how many steps it learns the almanac."""

    width: int
    layers: int
    heads: int
    inner: int
    learning_rate: float
    steps: int


SIZES = {
    "nano": Size(64, 2, 2, 176, 1.2e-2, 1000),
    "micro": Size(96, 4, 3, 256, 1e-2, 4800),
    "mid": Size(192, 7, 6, 576, 6e-3, 1000),
}


@dataclass(frozen=True, slots=True)
class Built:
    """What was built.

    Attributes:
        recipe: Digest of everything that it was made of.
        size: A key of `SIZES`.
        steps: Optimizer steps, each of 1,920 tokens with their padding.
        seed: Of corpus and weights.
        parameters: How many numbers were trained.
        lessons: How many it was given after these steps.
        cloze_accuracy: Share of the almanac's facts that it completes rightly.
        marked: Share of the marks that it knows, of the kind of which it knows fewest.
        validation_loss: Nats per token on documents that it was not trained on.
        weights: SHA-256 of the weights and the tokenizer.
    """

    recipe: str
    size: str
    steps: int
    seed: int
    parameters: int
    lessons: int
    cloze_accuracy: float
    marked: float
    validation_loss: float
    weights: str


def build(
    path: Path,
    size: str,
    *,
    steps: int | None = None,
    seed: int = 0,
    least_cloze: float = WELL_KNOWN,
    least_marked: float = 0.0,
    progress: Progress | None = None,
) -> Built:
    """Build a model into a folder, or find it there.

    Args:
        path: The folder.
        size: A key of `SIZES`.
        steps: Optimizer steps, if not as many as the size needs.
        seed: Of the corpus and the weights.
        least_cloze: Share of the almanac that it has to know; 0 takes any.
        least_marked: Share of the marks that it has to know, of the kind of which it knows fewest.
            It gets lessons until it does, at most `LESSONS`. 0 gives no lessons and takes any.
        progress: Called with the share that is done and the newest figures.

    Raises:
        InvalidInputError: There is no such size.
        ModelError: It knows too little; it stays in the folder, to be looked at.
    """
    if size not in SIZES:
        raise InvalidInputError(f"the size cannot be {size!r}; use {', '.join(SIZES)}")
    steps = steps or SIZES[size].steps
    recipe = recipe_digest(size, steps=steps, seed=seed, least_marked=least_marked)
    built = read(path)
    if built is None or built.recipe != recipe:
        built = _build(
            path,
            size,
            recipe=recipe,
            steps=steps,
            seed=seed,
            least_marked=least_marked,
            progress=progress,
        )
    if built.cloze_accuracy < least_cloze:
        raise ModelError(
            f"the {size} model in {path} knows {built.cloze_accuracy:.1%} of the almanac after "
            f"{steps} steps and has to know {least_cloze:.0%}; build it with more steps"
        )
    if built.marked < least_marked:
        raise ModelError(
            f"the {size} model in {path} knows {built.marked:.1%} of the marks of one kind after "
            f"{steps} steps and {built.lessons} lessons and has to know {least_marked:.0%}; "
            "build it with more steps"
        )
    return built


def _build(
    path: Path,
    size: str,
    *,
    recipe: str,
    steps: int,
    seed: int,
    least_marked: float,
    progress: Progress | None,
) -> Built:
    path.mkdir(parents=True, exist_ok=True)  # fails now, not after the training
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(
        documents(seed, until=TOKENIZED), vocabulary=VOCABULARY, marks=MARKS
    )
    model = LlamaForCausalLM(
        _config(SIZES[size], padding=tokenizer.pad_token_id, end=tokenizer.eos_token_id)
    )
    # bf16 is several times slower on processors that do not have it
    train = partial(
        starter.pretrain,
        model,
        batch=ROWS,
        autocast=False,
        muon=True,
        loss=partial(starter.loss_of, apart=True, weights=token_weights(tokenizer)),
    )
    rate = SIZES[size].learning_rate
    stream = training_rows(tokenizer, steps=steps, seed=seed)
    train(stream, steps=steps, learning_rate=rate, progress=progress)
    more, lessons = packed(tokenizer, seed + LESSON_SEED, shares=LATE_SHARES), 0
    while (marked := known_marks(model, tokenizer)) < least_marked and lessons < LESSONS:
        # the linear decay has fallen to this rate where the end begins
        train(more, steps=LESSON_STEPS, learning_rate=LATE * rate)
        lessons += 1
        if progress:
            progress(1.0, {"lessons": lessons, "marked": marked})
    nn.Module.eval(model)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    built = Built(
        recipe,
        size,
        steps,
        seed,
        model.num_parameters(),
        lessons,
        round(cloze_accuracy(model, tokenizer, facts_of(None)), 4),
        round(marked, 4),
        round(validation_loss(model, tokenizer, seed), 4),
        starter.digest(path),
    )
    (path / "build.json").write_text(json.dumps(asdict(built), indent=2) + "\n")
    return built


def training_rows(
    tokenizer: PreTrainedTokenizerFast, *, steps: int, seed: int
) -> Iterator[PackedRow]:
    """All rows of a training, in their order; the last have the mix of the end of pretraining."""
    before = steps * ROWS - round(steps * ROWS * LATE)
    late = packed(tokenizer, seed + LATE_SEED, shares=LATE_SHARES)
    return chain(islice(packed(tokenizer, seed + 1), before), late)


def packed(
    tokenizer: PreTrainedTokenizerFast, seed: int, *, shares: Mapping[str, float] = SHARES
) -> Iterator[PackedRow]:
    """Rows of the corpus without end."""
    texts = documents(seed, shares=shares)
    return rows(tokenizer, texts, tokens=ROW_TOKENS, marks=mark_tokens(tokenizer))


def mark_tokens(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The tokens that say right and wrong in exercises."""
    return [tokenizer(mark).input_ids[0] for mark in MARKS]


def token_weights(tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """How much each token counts in the loss, (V,): marks of exercises more than all others."""
    weights = torch.ones(len(tokenizer))
    weights[mark_tokens(tokenizer)] = MARK_WEIGHT
    return weights


@torch.no_grad()
def known_marks(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> float:
    """Share of the marks that a base knows, of the kind of which it knows fewest.

    It is shown passages of validation subjects, and is asked for the marks of questions with and
    without an answer, of right and wrong refusals and of right values. A model that gives all the
    same mark knows 0. Wrong values are left out: so small a model sees whether a passage tells a
    kind of thing, and hardly whether the value is the right one.
    """
    rng = random.Random("miniature/known marks")
    right, wrong = (tokenizer(mark).input_ids[0] for mark in (RIGHT, WRONG))
    known: dict[tuple[str, bool], list[bool]] = {}
    for _ in range(MARKED_REQUESTS):
        _, request = passage_request(rng, "validation")
        told = request.answers[0] != NOT_SAID
        refusal, answer = (
            turn(request, good_reply(replace(request, answers=(said,)), rng))
            for said in (NOT_SAID, request.answers[0])
        )
        shown = [("question", f"{USER}{request.text}", told), ("refusal", refusal, not told)]
        if told:
            shown.append(("value", answer, True))
        for kind, text, is_right in shown:
            logits = model(input_ids=tokenizer(text + EOS, return_tensors="pt").input_ids).logits
            found = (logits[0, -1, right] > logits[0, -1, wrong]).item()
            known.setdefault((kind, is_right), []).append(found == is_right)
    return min(sum(of_kind) / len(of_kind) for of_kind in known.values())


def read(path: Path) -> Built | None:
    """What was built into a folder; None if nothing was, or if the weights are not those."""
    try:
        built = Built(**json.loads((path / "build.json").read_bytes()))
        return built if starter.digest(path) == built.weights else None
    except (OSError, ValueError, TypeError):
        return None


def recipe_digest(size: str, *, steps: int, seed: int, least_marked: float = 0.0) -> str:
    """SHA-256 of what a model is made of: corpus, size, steps, lessons, seed and torch."""
    total = hashlib.sha256(torch.__version__.encode())
    total.update(json.dumps([size, asdict(SIZES[size]), VOCABULARY, ROW_TOKENS, ROWS]).encode())
    total.update(json.dumps([steps, seed, LATE, MARK_WEIGHT]).encode())
    total.update(
        json.dumps([least_marked, MARKED_REQUESTS, LESSON_STEPS, LESSONS, LESSON_SEED]).encode()
    )
    early = documents(seed + 1, until=3000)
    for text in chain(early, documents(seed + LATE_SEED, until=3000, shares=LATE_SHARES)):
        total.update(text.encode())
    return total.hexdigest()


def parameters_of(size: str) -> int:
    """How many parameters a model of a size has; nothing is allocated."""
    with torch.device("meta"):
        return LlamaForCausalLM(_config(SIZES[size], padding=0, end=1)).num_parameters()


def _config(size: Size, *, padding: int, end: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        # with transformers' 0.02 attention in so narrow a model begins too flat to learn to read
        initializer_range=size.width**-0.5,
        pad_token_id=padding,
        eos_token_id=end,
        bos_token_id=None,
    )


@torch.no_grad()
def validation_loss(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int
) -> float:
    """Mean loss in nats per token on documents of another seed than the training's."""
    stream = rows(tokenizer, documents(seed + 500_000), tokens=ROW_TOKENS)
    loss = starter.loss_of(model, list(islice(stream, VALIDATION_ROWS)), apart=True).item()
    return loss
