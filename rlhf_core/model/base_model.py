"""The quantized base model, held in memory once, and the named adapters on it.

Policy, reference and the members of the reward model are all adapters of one base; ``using``
chooses which of them the next forward pass goes through. Invariant: attaching an adapter decides
which parameters can be trained; switching never changes it. ``loading.py`` makes a base.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, Protocol

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft import set_peft_model_state_dict as set_adapter_weights
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GenerationConfig

from rlhf_core.config import LoraSettings, ReplySettings
from rlhf_core.errors import AdapterError, InvalidInputError
from rlhf_core.model.adapters import verify_adapter
from rlhf_core.model.chat_format import ChatFormat
from rlhf_core.model.conversions import MERGED
from rlhf_core.model.decoding import NO_ADAPTER, DecodingBatch, Row
from rlhf_core.model.fast_layers import MIXED, Mixture, can_mix
from rlhf_core.model.token_batches import pass_tokens, token_batches
from rlhf_core.records import Prompt, Sampling

NAME = re.compile(r"[A-Za-z0-9_-]+")  # a dot would part the names of modules
SPARE = "__spare__"  # PEFT's name for modules that wait for the next adapter
DECODED = 64  # replies decoded together
LOGITS_AT_ONCE = 512  # tokens whose logits are turned into float32 together


@dataclass(frozen=True, slots=True)
class Response:
    """One sampled response; ``finished`` means that the model ended it.

    ``logprobs`` are those of its tokens as another program computed them that decoded it.
    """

    text: str
    token_ids: tuple[int, ...]  # ends with an end token if finished
    finished: bool
    logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Read:
    """An adapter from files: its configuration there, and its parameters by their names there."""

    config: Any  # a LoraConfig
    weights: dict[str, Tensor]


class Decoder(Protocol):
    """Another program that decodes replies of a base and its adapters."""

    def decode(self, base: "Base", rows: Sequence[Row]) -> Sequence[Sequence[float]]:
        """Give the rows their tokens and ends; returns the log-probabilities of both."""


class Base:
    """One base model with its named adapters, and the contract of its replies.

    Attributes:
        ends: Ids of the tokens that end a reply, in serving, rollouts and the gate: all that the
            tokenizer, the model's generation config and the chat template declare.
        mixture: The adapters that `mixing` put together last.
        elsewhere: Decodes in place of this process, if it is set; all else stays here.
    """

    def __init__(self, model: Any, tokenizer: Any, reply: ReplySettings | None = None) -> None:
        self.model: Any = model  # a PeftModel from the first attached adapter on
        self.tokenizer = tokenizer
        self.reply = reply or ReplySettings()
        self.chat = ChatFormat(tokenizer, self.reply)
        self.ends = ends_of(model.generation_config, self.chat)
        # for whoever calls `generate`: a model's repetition penalty or top_k would sample replies
        # from another distribution than the one that training computes
        model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=sorted(self.ends),
            pad_token_id=tokenizer.pad_token_id,
        )
        self.device: torch.device = model.device
        self.fingerprint = fingerprint_of(model.config, model.get_input_embeddings().weight)
        self._stored = str(getattr(model.config, "quantization_config", None))
        self._trainable: set[str] = set()
        self._frozen: set[BaseTunerLayer] = set()  # modules whose adapters never train
        self._active: str | None = None
        self._layers: list[BaseTunerLayer] = []
        self._read: dict[str, _Read] = {}  # adapters whose weights came from files
        self.mixture: Mixture | None = None
        self._mixes: bool | None = None  # whether the model can, once it was tried
        self.elsewhere: Decoder | None = None

    @property
    def adapters(self) -> set[str]:
        """Names of the attached adapters."""
        model = self.model  # another thread may ask while this one attaches or drops
        return set(model.peft_config) - {SPARE} if isinstance(model, PeftModel) else set()

    @property
    def active(self) -> str | None:
        """Name of the adapter that forward passes go through; ``None`` is the bare base."""
        return self._active

    @property
    def layers(self) -> Sequence[torch.nn.Module]:
        """The decoder's layers, the lowest first; empty for a model that has no list of them."""
        decoder = self.model.get_decoder()
        wanted = self.model.config.get_text_config().num_hidden_layers
        lists = (m for m in decoder.modules() if isinstance(m, torch.nn.ModuleList))
        return next((list(found) for found in lists if len(found) == wanted), [])

    def attach(
        self,
        name: str,
        path: Path | str | None = None,
        *,
        lora: LoraSettings | None = None,
        trainable: bool = False,
        seed: int = 0,
        key: bytes | None = None,
    ) -> None:
        """Add a fresh adapter, or a policy from a directory, which is verified first.

        A fresh adapter leaves the base's output unchanged until it is trained. Its weights follow
        from ``seed``, so that a restarted program begins with the same ones. With ``key`` the
        directory must be signed, as for ``verify_adapter``.

        Raises:
            AdapterError: The name is taken or not allowed, or the directory does not hold a valid
                adapter for this base.
            InvalidInputError: The model has none of the layers that ``lora`` names.
        """
        self._require_free(name)
        if path is None:
            settings = lora or LoraSettings()
            try:
                with self._seeded(seed):
                    self._add(name, _lora_config(settings), trainable=trainable)
            except ValueError as exc:  # PEFT's, if the model has no such layers
                raise InvalidInputError(
                    f"no adapter fits lora.target_modules {settings.target_modules!r}: "
                    f"{shorten(str(exc), 200, placeholder=' ...')} Use 'all-linear', or a regular "
                    "expression of the model's own layers"
                ) from exc
            return
        path = Path(path)
        verify_adapter(path, base=self.fingerprint, kind="policy", key=key)
        self.attach_weights(name, path, trainable=trainable)

    def attach_weights(self, name: str, path: Path, *, trainable: bool = False) -> None:
        """Add an adapter from a directory that was verified already, with the one around it."""
        self._require_free(name)
        try:
            config: Any = LoraConfig.from_pretrained(str(path))
            weights = load_file(path / "adapter_model.safetensors")
        except (OSError, ValueError, TypeError) as exc:
            raise AdapterError(f"adapter {path} cannot be read: {exc}") from exc
        spare = self._read.get(SPARE)
        if spare is not None and not trainable and spare.config.to_dict() == config.to_dict():
            _require_same_shapes(spare.weights, weights, path)
            for key, weight in spare.weights.items():
                weight.copy_(weights[key])
            self._rename(SPARE, name)
            return
        read = deepcopy(config)  # PEFT changes a configuration that it is given
        try:
            self._add(name, config, trainable=trainable)
        except ValueError as exc:  # PEFT's, if the model has no such layers
            reason = shorten(str(exc), 200, placeholder=" ...")
            raise AdapterError(f"adapter {path} does not fit the base: {reason}") from exc
        try:
            expected = get_peft_model_state_dict(self.model, adapter_name=name)
            _require_same_shapes(expected, weights, path)
            set_adapter_weights(self.model, weights, adapter_name=name)
        except BaseException:
            self.drop(name)  # without its weights it would look like the real adapter
            raise
        if not trainable:
            self._read[name] = _Read(read, expected)

    def prepare_next(self, name: str) -> None:
        """Make the modules for the next adapter of this one's shape now, if there are none.

        PEFT makes modules in 50 ms for a base of 2M parameters, and in 350 ms for one of 135M;
        weights are copied into those that are there in a few.
        """
        if SPARE in self._read or (read := self._read.get(name)) is None:
            return
        try:
            self._add(SPARE, deepcopy(read.config), trainable=False)
            weights = get_peft_model_state_dict(self.model, adapter_name=SPARE)
        except BaseException:
            if SPARE in self.model.peft_config:
                self.model.delete_adapter(SPARE)
                self._refresh()
            raise
        self._read[SPARE] = _Read(read.config, weights)

    def retire(self, name: str) -> None:
        """Remove an adapter, and keep its modules for the next one if none are kept yet."""
        self._require(name)
        if name in self._read and SPARE not in self._read:
            self._rename(name, SPARE)
        else:
            self.drop(name)

    def _rename(self, old: str, new: str) -> None:
        self._unmix()
        if self._active == old:
            self._activate(None)
        for module in self._layers:
            for kind in (*module.adapter_layer_names, *module.other_param_names):
                if old in (of_adapters := getattr(module, kind)):
                    of_adapters[new] = of_adapters.pop(old)
        configs = self.model.peft_config
        configs[new], self._read[new] = configs.pop(old), self._read.pop(old)
        if self.model.active_adapter == old:  # PEFT wants one that exists
            self.model.active_adapter = new

    def weights(self, name: str) -> list[Tensor]:
        """An adapter's weights: the parameters themselves, in the order of the layers."""
        self._require(name)
        return [p for key, p in self.model.named_parameters() if f".{name}." in key]

    def copy_adapter(self, source: str | None, target: str) -> None:
        """Add a frozen copy of ``source``; a copy of ``None`` is an adapter without effect."""
        if source is None:
            self.attach(target)
            return
        self._require(source)
        if target in self.adapters:
            raise AdapterError(f"adapter {target!r} is attached already; names are never reused")
        self._add(target, self.model.peft_config[source], trainable=False)
        weights = get_peft_model_state_dict(self.model, adapter_name=source)
        set_adapter_weights(self.model, weights, adapter_name=target)

    def save(self, name: str, directory: Path) -> None:
        """Write an adapter's configuration and weights (safetensors) into ``directory``."""
        self._require(name)
        directory.mkdir(parents=True, exist_ok=True)
        weights = get_peft_model_state_dict(self.model, adapter_name=name)
        plain = {k: v.detach().float().cpu().contiguous() for k, v in weights.items()}
        save_file(plain, directory / "adapter_model.safetensors")
        self.model.peft_config[name].save_pretrained(str(directory))

    def digest(self, name: str | None) -> str:
        """A hash of the base as stored and of an adapter's weights.

        A checkpoint keeps it: training resumes only from the same start.
        """
        digest = hashlib.sha256((self.fingerprint + self._stored).encode())
        if name is not None:
            self._require(name)
            weights = get_peft_model_state_dict(self.model, adapter_name=name)
            for key in sorted(weights):
                digest.update(key.encode() + weights[key].detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def drop(self, name: str) -> None:
        """Remove an adapter; the base itself stays."""
        self._require(name)
        self._unmix()
        if self._active == name:
            self._activate(None)
        self._trainable.discard(name)
        self._read.pop(name, None)
        if set(self.model.peft_config) == {name}:
            self.model = self.model.unload()  # the last one: back to the plain model
        else:
            self.model.delete_adapter(name)
        self._refresh()

    @contextmanager
    def using(self, name: str | None) -> Iterator[Any]:
        """Send forward passes through adapter ``name`` (``None``: the bare base) in the block."""
        if name is not None:
            self._require(name)
        before = self._active
        self._activate(name)
        try:
            yield self.model
        finally:
            self._activate(before)

    @contextmanager
    def mixing(self, names: Sequence[str]) -> Iterator[Mixture | None]:
        """Send forward passes through several adapters in the block, each row through its own.

        ``choose`` of the mixture says which rows go through which. It is kept for the next block.

        Yields:
            None, if these adapters cannot be mixed; then PEFT's ``adapter_names`` can be given.
        """
        if self.mixture is None or not self.mixture.has(names):
            self._unmix()
            if self._mixes is not False and can_mix(self._layers, names):
                self.mixture = Mixture(self._layers, names)
                self._mixes = self._mixes or self._is_right(self.mixture)
                if not self._mixes:
                    self._unmix()
        before = self._active
        self._activate(MIXED if self.mixture else None)
        try:
            yield self.mixture
        finally:
            self._activate(before)

    def _is_right(self, mixture: Mixture) -> bool:
        """Try it: layers that see the rows in another shape would mask them wrongly."""
        before, name = self._active, mixture.names[0]
        ids = torch.zeros((2, 1), dtype=torch.long, device=self.device)
        try:
            with torch.no_grad():
                mixture.choose([name, None])
                self._activate(MIXED)
                one = self.model(input_ids=ids, use_cache=False).logits
                self._activate(None)
                apart = {"adapter_names": [name, NO_ADAPTER]}
                two = self.model(input_ids=ids, use_cache=False, **apart).logits
            return bool((one - two).norm() <= 0.05 * two.norm())  # a step of 16 bits is .01
        except Exception:  # whatever a model's own code makes of it
            return False
        finally:
            self._activate(before)

    def _unmix(self) -> None:
        """Forget the mixture: one of its adapters goes, or will change."""
        if self.mixture is not None:
            if self._active == MIXED:
                self._activate(None)
            self.mixture.remove()
            self.mixture = None

    @contextmanager
    def training(self, name: str, *, above: int = 0) -> Iterator[None]:
        """Like ``using``, in training mode and with ``name`` as the only trainable adapter.

        Args:
            name: The adapter.
            above: How many of the lowest layers do not train.
        """
        self._require(name)
        self._unmix()
        before, self._trainable = (self._trainable, self._frozen), {name}
        if above:
            upper = {id(module) for layer in self.layers[above:] for module in layer.modules()}
            self._frozen = {module for module in self._layers if id(module) not in upper}
        try:
            with self.using(name):
                self.model.train()
                yield
        finally:
            self._trainable, self._frozen = before
            self._activate(self._active)
            self.model.eval()

    def respond(
        self,
        prompts: Sequence[Prompt],
        *,
        adapter: str | None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        seed: int = 0,
        batch_size: int = DECODED,
    ) -> list[Response]:
        """Sample one response to each prompt, as replies are sampled when serving.

        Args:
            prompts: Conversations.
            adapter: The policy; ``None`` is the bare base.
            max_new_tokens: Longest response, if not as the contract says.
            temperature: The same; 0 takes the likeliest tokens.
            seed: Of the sampling.
            batch_size: Responses sampled together; changes no result but by rounding.

        Raises:
            InvalidInputError: A prompt is not a conversation, the chat template refuses it, or the
                temperature is negative.
        """
        temperature = self.reply.temperature if temperature is None else temperature
        if temperature < 0:
            raise InvalidInputError(f"temperature cannot be {temperature}; use 0 or more")
        sampling = Sampling(temperature, self.reply.top_p, max_new_tokens or self.reply.tokens)
        rows = [self.chat.encode_prompt(prompt) for prompt in prompts]
        seeds = torch.Generator().manual_seed(seed)
        return self.decode(rows, sampling, adapter=adapter, seeds=seeds, batch_size=batch_size)

    def decode(
        self,
        rows: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        adapter: str | None,
        seeds: torch.Generator | None = None,
        batch_size: int = DECODED,
    ) -> list[Response]:
        """Sample one response to each row of prompt tokens.

        Args:
            rows: Token ids of the prompts.
            sampling: How.
            adapter: The policy; ``None`` is the bare base.
            seeds: Gives each row its seed; by default torch's own random numbers do.
            batch_size: Responses sampled together; changes no result but by rounding.
        """
        drawn = torch.randint(2**62, (len(rows),), generator=seeds).tolist()
        replies = [
            Row(list(ids), adapter, sampling, seed) for ids, seed in zip(rows, drawn, strict=True)
        ]
        if self.elsewhere is not None:
            told = self.elsewhere.decode(self, replies)
            return [
                self._response(row, logprobs) for row, logprobs in zip(replies, told, strict=True)
            ]
        with self._evaluating(adapter):
            for start in range(0, len(replies), batch_size):
                batch = DecodingBatch(self)
                batch.admit(replies[start : start + batch_size])
                while batch.rows:
                    batch.sample()
                    batch.advance()
        return [self._response(row) for row in replies]

    @torch.no_grad()
    def logprobs(
        self,
        prompts: Sequence[Prompt],
        response_ids: Sequence[Sequence[int]],
        *,
        adapter: str | None,
    ) -> list[Tensor]:
        """Log-probability of every response token, with the end token; (T,) each.

        It is that of the policy as it is sampled: logits are divided by the temperature. Logits
        are computed before response tokens only, since a vocabulary is large.
        """
        heads = [self.chat.encode_prompt(prompt) for prompt in prompts]
        rows = [[*head, *ids] for head, ids in zip(heads, response_ids, strict=True)]
        found: dict[int, Tensor] = {}
        lengths = [len(row) for row in rows]
        for part in token_batches(lengths, tokens=pass_tokens(self.device)):
            ids, mask = self.pad([rows[i] for i in part], side="right")  # (B, P + T)
            replied = torch.zeros_like(ids, dtype=torch.bool)
            for k, i in enumerate(part):
                replied[k, len(heads[i]) : len(rows[i])] = True
            row, column = replied.nonzero(as_tuple=True)  # (N,) response tokens, row by row
            with self._evaluating(adapter), self._states_at(row, column - 1):
                logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0]
            taken = _logprobs_of(ids[row, column], logits, self.reply.rollout_temperature)
            sizes = [len(response_ids[i]) for i in part]
            found |= dict(zip(part, torch.split(taken.cpu(), sizes), strict=True))
        return [found[i] for i in range(len(rows))]

    @contextmanager
    def _states_at(self, rows: Tensor, positions: Tensor) -> Iterator[None]:
        """In the block the decoder returns the states at these places only, so the head sees N.

        Args:
            rows: Row of each state. (N,)
            positions: Its position within the row. (N,)
        """

        def leave(_module: Any, _inputs: Any, output: Any) -> Any:
            output.last_hidden_state = output.last_hidden_state[rows, positions][None]  # (1, N, d)
            return output

        hook = self.model.get_decoder().register_forward_hook(leave)
        try:
            yield
        finally:
            hook.remove()

    def pad(
        self, rows: Sequence[Sequence[int]], *, side: Literal["left", "right"]
    ) -> tuple[Tensor, Tensor]:
        """Token rows as ids and attention mask on the base's device, each (B, longest row)."""
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            at = slice(width - len(row), width) if side == "left" else slice(0, len(row))
            ids[i, at] = torch.tensor(row)
            mask[i, at] = 1
        return ids.to(self.device), mask.to(self.device)

    @contextmanager
    def _seeded(self, seed: int) -> Iterator[None]:
        """Random numbers from ``seed`` in the block; the random state outside stays as it was."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    @contextmanager
    def _evaluating(self, adapter: str | None) -> Iterator[None]:
        """Evaluation mode with ``adapter`` in the block; then the mode before."""
        was_training = self.model.training
        self.model.eval()
        try:
            with self.using(adapter):
                yield
        finally:
            self.model.train(was_training)

    def _response(self, row: Row, logprobs: Sequence[float] | None = None) -> Response:
        ids = row.ids if row.end is None else [*row.ids, row.end]
        told = None if logprobs is None else tuple(logprobs)
        return Response(self.chat.decode_reply(row.ids), tuple(ids), row.end is not None, told)

    def _require_free(self, name: str) -> None:
        if not NAME.fullmatch(name) or name in (SPARE, MIXED):
            raise AdapterError(
                f"an adapter cannot be called {name!r}; use letters, digits, - and _"
            )
        if name in self.adapters:
            raise AdapterError(f"adapter {name!r} is attached already; names are never reused")

    def _require(self, name: str) -> None:
        if name not in self.adapters:
            known = ", ".join(sorted(self.adapters)) or "none"
            raise AdapterError(f"adapter {name!r} is not attached; attached: {known}")

    def _add(self, name: str, config: Any, *, trainable: bool) -> None:
        if isinstance(self.model, PeftModel):
            self.model.add_adapter(name, config)
        else:
            self.model = get_peft_model(self.model, config, adapter_name=name).eval()
        if trainable:
            self._trainable.add(name)
        self._refresh()

    def _refresh(self) -> None:
        """After a change of adapters: find the layers that have them, and activate again."""
        self._layers = [m for m in self.model.modules() if isinstance(m, BaseTunerLayer)]
        self._activate(self._active)

    def _activate(self, name: str | None) -> None:
        self._active = name
        if not isinstance(self.model, PeftModel):
            return
        # Layer by layer, because PEFT's own walk over all modules takes 10 ms each time. For the
        # bare base no adapter is active, but none is disabled: a batch may name one for each row.
        chosen = [] if name is None else [name]
        for module in self._layers:
            module.set_adapter(chosen, inference_mode=True)  # this freezes every adapter
            if module not in self._frozen:
                module.set_requires_grad(tuple(self._trainable), True)
        network: Any = self.model.base_model
        configs = network.peft_config  # it has none for a mixture
        network.active_adapter = [one for one in chosen if one in configs]
        self.model.active_adapter = name if name and name in configs else min(configs)


def _logprobs_of(ids: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Log-probability of each token, in float32 for a few at once only; (N,) from (N, V)."""
    parts = zip(torch.split(ids, LOGITS_AT_ONCE), torch.split(logits, LOGITS_AT_ONCE), strict=True)
    found = [
        (some.float() / temperature).log_softmax(-1).gather(1, taken[:, None])
        for taken, some in parts
    ]
    return torch.cat(found)[:, 0]  # (N,)


def _require_same_shapes(own: dict[str, Tensor], given: dict[str, Tensor], path: Path) -> None:
    wanted, found = ({key: w.shape for key, w in weights.items()} for weights in (own, given))
    if wanted != found:
        raise AdapterError(f"adapter {path} lacks weights, or has weights of another shape")


def _lora_config(settings: LoraSettings) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        target_modules=settings.target_modules,
    )


def ends_of(generation: Any, chat: ChatFormat) -> frozenset[int]:
    """Ids of the tokens that end a reply; see `Base.ends`."""
    declared = generation.eos_token_id
    listed = declared if isinstance(declared, list) else [declared]
    every = (*listed, chat.tokenizer.eos_token_id, chat.end)
    return frozenset(token for token in every if token is not None)


def fingerprint_of(model_config: Any, embeddings: Tensor) -> str:
    """Identifies the base that an adapter was made for; the same on every device.

    Args:
        model_config: The whole model's configuration.
        embeddings: The first 64 rows of its input embeddings, or more; (N, d).
    """
    config, rows = model_config.get_text_config(), embeddings[:64]
    shape = (config.model_type, config.hidden_size, config.num_hidden_layers, config.vocab_size)
    # A merged adapter changes no embedding row. What was merged is in the configuration, because
    # quantized weights are not the same everywhere.
    digest = hashlib.sha256((repr(shape) + getattr(model_config, MERGED, "")).encode())
    digest.update(rows.detach().to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes())
    return f"{config.model_type}-{digest.hexdigest()[:16]}"
