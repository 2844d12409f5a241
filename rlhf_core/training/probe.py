"""What one token costs on this machine: seconds and bytes, measured on a few blocks of the model.

Blocks are all alike. So two small models, of one block and of three, tell what a block costs and
what comes on top; a line through both gives the whole model. Their weights are random, and the code
that is timed is the service's own: `load_base`, its decoder, and an adapter's backward pass.
"""

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from statistics import median
from textwrap import shorten
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from rlhf_core.config import LoraSettings, ReplySettings
from rlhf_core.errors import ModelError, NoRoomError
from rlhf_core.model.base_model import Base
from rlhf_core.model.decoding import DecodingBatch, Row
from rlhf_core.model.facts import model_config
from rlhf_core.model.loading import Quantization, load_base
from rlhf_core.records import Sampling
from rlhf_core.training.memory import give_back, is_out_of_memory

FEW, MORE = 1, 3  # blocks of the two models
REPEATS = 3  # of each timing; the median counts
ROWS, WIDTH = 4, 128  # of the batch that is timed
TOGETHER = 32  # replies decoded in one step


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of a whole model.

    Attributes:
        read: Seconds for one token in a pass without gradients, without the head.
        train: Seconds for one token, forwards and backwards, without the head.
        head: Seconds for the head's log-probabilities of one token.
        step: Seconds for one more token of one reply, decoded and sampled alone.
        row: Seconds that each further reply adds to that step.
        kept: Bytes that a training pass keeps for each token until it goes backwards.
        adapter: Numbers in an adapter.
    """

    read: float
    train: float
    head: float
    step: float
    row: float
    kept: float
    adapter: float


def measure(
    path: str,
    *,
    quantization: Quantization,
    lora: LoraSettings,
    reply: ReplySettings,
    threads: int,
) -> Costs:
    """Measure a model's costs here; takes seconds, and no weights of the model.

    Args:
        path: The model's directory or its name on a hub.
        quantization: Of its linear layers.
        lora: Size of the adapters.
        reply: The contract, which has to fit the model.
        threads: CPU threads.

    Raises:
        ModelError: A model of so few blocks cannot be built or run.
        NoRoomError: Memory ran out.
    """
    config = model_config(path)
    disable_progress_bar()  # type: ignore[no-untyped-call] # transformers shows one for each file
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        few, more = (
            _measure(path, config, n, quantization=quantization, lora=lora, reply=reply)
            for n in (FEW, MORE)
        )
    except Exception as exc:  # what a model's code raises on fewer blocks, nobody knows
        if is_out_of_memory(exc):
            raise NoRoomError(
                f"there is too little memory to load {MORE} blocks of model {path!r}, and a cycle "
                "loads all of them; use a smaller model or --quantization nf4, or free memory"
            ) from exc
        reason = shorten(str(exc), 200, placeholder=" ...") or type(exc).__name__
        raise ModelError(f"the costs of model {path!r} cannot be measured: {reason}") from exc
    finally:
        torch.set_num_threads(before)
        give_back()

    def whole(name: str) -> float:
        """The line through both measurements, at the model's own number of blocks."""
        low, high = getattr(few, name), getattr(more, name)
        block = max(0.0, high - low) / (MORE - FEW)
        return float(low + block * (config.num_hidden_layers - FEW))

    return Costs(**{f.name: whole(f.name) for f in fields(Costs)})


def _measure(
    path: str,
    config: Any,
    blocks: int,
    *,
    quantization: Quantization,
    lora: LoraSettings,
    reply: ReplySettings,
) -> Costs:
    with tempfile.TemporaryDirectory() as folder:
        # the random numbers of three blocks of an 8B take a CPU half a minute
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            network: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                _of_few_blocks(config, blocks), dtype=torch.bfloat16
            )
        network.save_pretrained(folder)
        AutoTokenizer.from_pretrained(path).save_pretrained(folder)
        base = load_base(folder, quantization=quantization, reply=reply)
    base.attach("probe", lora=lora, trainable=True)
    base.ends = frozenset()  # random weights may end a reply at any time
    decoder = base.model.get_decoder()
    width = min(WIDTH, reply.prompt_tokens)  # the context has room for as many
    ids = torch.randint(config.vocab_size, (ROWS, width), device=base.device)
    tokens = ROWS * width
    states: list[Any] = []

    def read() -> None:
        states[:] = [decoder(input_ids=ids, use_cache=False).last_hidden_state]

    def train() -> None:
        decoder(input_ids=ids, use_cache=False).last_hidden_state.float().mean().backward()

    def head() -> None:
        base.model.get_output_embeddings()(states[0]).float().log_softmax(-1)

    with base.using("probe"), torch.no_grad():
        seconds = {"read": _timed(base, read) / tokens, "head": _timed(base, head) / tokens}
        one, many = (_step(base, n, width) for n in (1, TOGETHER))
    with base.training("probe"):
        seconds["train"] = _timed(base, train) / tokens
        kept = _kept_bytes(
            lambda: decoder(input_ids=ids, use_cache=False).last_hidden_state,
            beside=base.model.parameters(),
        )
    return Costs(
        **seconds,
        step=one,
        row=(many - one) / (TOGETHER - 1),
        kept=kept / tokens,
        adapter=float(sum(p.numel() for p in base.weights("probe"))),
    )


def _of_few_blocks(config: Any, blocks: int) -> Any:
    """The configuration of a model's last blocks, since some models want a last one of a kind."""
    values, whole = config.to_dict(), config.num_hidden_layers
    last = [(whole - blocks + i) % whole for i in range(blocks)]
    values |= {
        name: [value[i] for i in last]
        for name, value in values.items()
        if isinstance(value, list) and len(value) == whole
    }
    values |= {"num_hidden_layers": blocks}
    if own := {int(i): changes for i, changes in (values.get("per_layer_config") or {}).items()}:
        values["per_layer_config"] = {n: own[i] for n, i in enumerate(last) if i in own}
    if "num_kv_shared_layers" in values:  # they read the cache of a block that may be gone
        values["num_kv_shared_layers"] = 0
    return type(config).from_dict(values)


def _step(base: Base, rows: int, width: int) -> float:
    """Seconds of one step of the decoder, with a cache of `width` tokens.

    Sampling is included, as in rollouts: from all tokens. With `top_p` it takes about as long
    (docs/results.md, "Decoding").
    """
    vocabulary = base.model.config.get_text_config().vocab_size
    prompts = torch.randint(vocabulary, (rows, width)).tolist()
    batch = DecodingBatch(base)
    sampling = Sampling(base.reply.rollout_temperature, 1.0, REPEATS + 2)
    batch.admit([Row(ids, base.active, sampling, seed) for seed, ids in enumerate(prompts)])

    def step() -> None:
        batch.sample()
        batch.advance()

    return _timed(base, step)


def _timed(base: Base, work: Callable[[], object]) -> float:
    """Median seconds of a call, after one that does not count."""
    found = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        work()
        if base.device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return median(found[1:])


def _kept_bytes(forward: Callable[[], Any], *, beside: Iterable[torch.Tensor]) -> float:
    """Bytes that the graph of a forward pass keeps, beside weights.

    A linear layer keeps a view of its weight, so weights are known by their storage.
    """
    weights = {weight.untyped_storage().data_ptr() for weight in beside}
    kept: dict[int, int] = {}

    def note(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = forward()  # held, so that no storage is freed and counted twice
    del out
    return float(sum(kept.values()))
