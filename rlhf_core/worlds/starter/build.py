"""Build the starter model from nothing: tokenizer, pretraining on the flawed corpus, its accuracy.

Facts need many small optimizer steps, not many tokens: a step has about 1,900 tokens. Rows hold
whole documents, so that position 0 always begins one, as a prompt does when the model serves.
The result is deterministic for one torch build, thread count and kind of processor; `check`
compares its hash.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlhf_core.worlds.muon import Muon
from rlhf_core.worlds.starter.corpus import ASSISTANT, EOS, PAD, USER, cloze, documents
from rlhf_core.worlds.starter.facts import Fact, all_facts

VOCABULARY = 1536
ROW_TOKENS, ROWS = 160, 12
STEPS, LEARNING_RATE, WARMUP_STEPS = 3600, 3e-3, 60
UNLEARNT = -100  # no token's label

CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}</s>"
    "{% elif m['role'] == 'assistant' %}<|assistant|>"
    "{% generation %}{{ m['content'] }}</s>{% endgeneration %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

Progress = Callable[[float, dict[str, float]], None]


def build_tokenizer(
    texts: Iterable[str], *, vocabulary: int = VOCABULARY, marks: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on the beginning of a corpus; it can encode any text.

    Each of `marks` is one token, as the signs of the chat template are.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, EOS, USER, ASSISTANT, *marks],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(islice(texts, 30_000), trainer)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe, pad_token=PAD, eos_token=EOS, model_max_length=512
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """Two million parameters; every width is a multiple of 64, which nf4 on a CPU needs."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )


class PackedRow(NamedTuple):
    """Whole documents one behind the other, then padding."""

    tokens: list[int]
    documents: list[int]  # which document a token is of; padding is one more
    labels: list[int]  # the tokens that are learnt; others are UNLEARNT


def rows(
    tokenizer: PreTrainedTokenizerFast,
    texts: Iterable[str],
    *,
    tokens: int = ROW_TOKENS,
    marks: Collection[int] = (),
) -> Iterator[PackedRow]:
    """Rows of whole documents, padded to `tokens`; a longer document is cut.

    In a document with any of `marks` only these are learnt.
    """
    row, documents = PackedRow([], [], []), 0
    for text in texts:
        ids = tokenizer(text).input_ids[:tokens]
        if len(row.tokens) + len(ids) > tokens:
            left = tokens - len(row.tokens)
            yield PackedRow(
                row.tokens + [tokenizer.pad_token_id] * left,
                row.documents + [documents] * left,
                row.labels + [UNLEARNT] * left,
            )
            row, documents = PackedRow([], [], []), 0
        marked = not set(marks).isdisjoint(ids)
        row.tokens.extend(ids)
        row.documents.extend([documents] * len(ids))
        row.labels.extend(i if not marked or i in marks else UNLEARNT for i in ids)
        documents += 1


def loss_of(
    model: LlamaForCausalLM,
    batch: Sequence[PackedRow],
    *,
    apart: bool = False,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean loss in nats per learnt token of some rows.

    Without weights and `apart` it equals the model's own loss, which has neither.

    Args:
        model: The model.
        batch: Rows of one length.
        apart: Whether a token sees its own document only. Other documents of the row are noise to
            a model that has to learn to find things in a text.
        weights: How much each token of the vocabulary counts, (V,); all alike if there are none.
    """
    ids, labels = (torch.tensor([row[k] for row in batch]) for k in (0, 2))  # (B, T)
    mask = None
    if apart:
        which = torch.tensor([row.documents for row in batch])
        sees = (which[:, :, None] == which[:, None, :]).tril()
        least = torch.finfo(torch.float32).min
        mask = torch.zeros(sees.shape).masked_fill(~sees, least)[:, None]  # (B, 1, T, T)
    logits = model(input_ids=ids, attention_mask=mask).logits.float()
    following = nn.functional.pad(labels[:, 1:], (0, 1), value=UNLEARNT)
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), following.flatten(), weight=weights, ignore_index=UNLEARNT
    )


def pretrain(  # noqa: PLR0913  # all but two by name
    model: LlamaForCausalLM,
    stream: Iterator[PackedRow],
    *,
    steps: int = STEPS,
    batch: int = ROWS,
    learning_rate: float = LEARNING_RATE,
    autocast: bool = True,
    muon: bool = False,
    loss: Callable[[LlamaForCausalLM, Sequence[PackedRow]], Tensor] = loss_of,
    progress: Progress | None = None,
) -> None:
    """Train all weights on padded rows: linear warm-up, linear decay to a fiftieth.

    By AdamW; with `muon`, matrices between the embedding and the head by that instead.
    """
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2] if muon else []
    others = [p for p in model.parameters() if not any(p is matrix for matrix in matrices)]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.95), fused=True)
    ]
    if muon:
        optimizers.append(Muon(matrices, lr=learning_rate))
    model.train()
    for step in range(steps):
        rate = learning_rate * min(1.0, (step + 1) / WARMUP_STEPS) * max(0.02, 1 - step / steps)
        for group in itertools.chain(*(optimizer.param_groups for optimizer in optimizers)):
            group["lr"] = rate
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            found = loss(model, list(islice(stream, batch)))
        found.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if progress and step % 25 == 24:
            progress((step + 1) / steps, {"loss": found.item()})


@torch.no_grad()
def cloze_accuracy(
    model: nn.Module, tokenizer: PreTrainedTokenizerFast, facts: Sequence[Fact] = ()
) -> float:
    """Share of facts whose value is the model's greedy completion of the almanac's sentence.

    Of all of the starter's facts, if none are given.
    """
    right, facts = 0, facts or all_facts()
    for fact in facts:
        stem, value = cloze(fact)
        prompt, answer = tokenizer(stem).input_ids, tokenizer(value).input_ids
        ids = torch.tensor([prompt + answer])
        # the logits at a token predict the next one
        picks = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].argmax(-1)
        right += picks.tolist() == answer
    return right / len(facts)


def build(
    path: Path, *, steps: int = STEPS, seed: int = 0, progress: Progress | None = None
) -> float:
    """Build the starter model into `path` and return its cloze accuracy."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(documents(seed))
    model = LlamaForCausalLM(build_config(tokenizer))
    pretrain(model, rows(tokenizer, documents(seed + 1)), steps=steps, progress=progress)
    nn.Module.to(model.eval(), torch.bfloat16)  # type: ignore[no-untyped-call]
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    accuracy = cloze_accuracy(model.float(), tokenizer)  # type: ignore[no-untyped-call]
    stated = {
        "seed": seed,
        "steps": steps,
        "cloze_accuracy": round(accuracy, 4),
        "sha256": digest(path),
    }
    (path / "build.json").write_text(json.dumps(stated, indent=2) + "\n")
    return accuracy


def digest(path: Path) -> str:
    """sha256 of the weights and the tokenizer, in that order."""
    total = hashlib.sha256()
    for name in ("model.safetensors", "tokenizer.json"):
        total.update((path / name).read_bytes())
    return total.hexdigest()
