"""Chat templates as models have them, each in a few lines, and tokenizers to go with them."""

from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

WORDS = "red green blue kind rude yes no please thanks hello what is the colour of sky grass"


@dataclass(frozen=True)
class Kind:
    """A family of models: its template and its control tokens."""

    template: str
    special: tuple[str, ...]
    eos: str
    pad: str = "<pad>"
    end: str = ""  # of the assistant's turn, if it is not `eos`
    bos: str | None = None
    takes_system: bool = True
    alternates: bool = False
    borders: tuple[str, ...] = ()  # of turns, if they are plain text to the tokenizer


ALTERNATES = (
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception("
    "'Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)
CHATML_TURN = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"

GEMMA = Kind(
    template=(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}" + ALTERNATES + "{{ '<start_of_turn>'"
        " + ('model' if m['role'] == 'assistant' else m['role']) + '\n'"
        " + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    special=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    eos="<eos>",
    end="<end_of_turn>",
    bos="<bos>",
    takes_system=False,
    alternates=True,
)
MISTRAL = Kind(  # `[INST]` is plain text to its tokenizer
    template=(
        "{% set system = '' %}{% set turns = messages %}"
        "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}"
        "{% set system = messages[0]['content'] + '\n\n' %}{% endif %}{{ bos_token }}"
        "{% for m in turns %}" + ALTERNATES + "{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + (system if loop.first else '') + m['content'] + ' [/INST]' }}"
        "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
        "{% endif %}{% endfor %}"
    ),
    special=("<s>", "</s>"),
    eos="</s>",
    pad="</s>",
    bos="<s>",
    alternates=True,
    borders=("[INST]", "[/INST]"),
)
SMOLLM = Kind(
    template=(
        "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n{% endif %}"
        + CHATML_TURN
        + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    eos="<|im_end|>",
    pad="<|im_end|>",
)
LLAMA3 = Kind(
    template=(
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role']"
        " + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    special=(
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ),
    eos="<|end_of_text|>",
    end="<|eot_id|>",
    bos="<|begin_of_text|>",
)
ZEPHYR = Kind(  # `<|user|>` is plain text to its tokenizer
    template=(
        "{% for m in messages %}{% if m['role'] in ('system', 'user', 'assistant') %}"
        "{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endif %}"
        "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}{% endfor %}"
    ),
    special=("<s>", "</s>"),
    eos="</s>",
    pad="</s>",
    borders=("<|system|>", "<|user|>", "<|assistant|>"),
)
QWEN = Kind(
    template=(
        "{% for m in messages %}" + CHATML_TURN + "{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}"
        "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
    ),
    special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    eos="<|im_end|>",
    pad="<|endoftext|>",
)
SILENT = Kind(  # drops what it does not know
    template=(
        "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}</s>"
        "{% elif m['role'] == 'assistant' %}<|assistant|>{{ m['content'] }}</s>{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
    special=("</s>", "<|user|>", "<|assistant|>"),
    eos="</s>",
    takes_system=False,
)
TINY = Kind(  # takes everything; the model of most tests
    template=(
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
    special=("<|user|>", "<|assistant|>"),
    eos="</s>",
)
KINDS = {
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "smollm": SMOLLM,
    "llama3": LLAMA3,
    "zephyr": ZEPHYR,
    "qwen": QWEN,
    "silent": SILENT,
    "tiny": TINY,
}


def tokenizer_of(kind: Kind) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 320 tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=list(dict.fromkeys((kind.pad, kind.eos, *kind.special))),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([WORDS] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=kind.pad, eos_token=kind.eos, bos_token=kind.bos
    )
    tokenizer.chat_template = kind.template
    return tokenizer
