"""What replies look like, without any score: empty, unfinished, cut, repeating, alike, long.

Each sign is judged reply by reply, so that two policies can be compared prompt by prompt. No sign
depends on how long replies may be: a reply of ten tokens and one of 200 are read in the same way.
Whether a rate is too high is decided in `checks.py`.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch

from rlhf_core.model.base_model import Base, Response
from rlhf_core.records import Prompt
from rlhf_core.reward.reward_data import prompt_key

Signs = Mapping[str, Sequence[bool]]  # by sign: whether each reply shows it

CUT_PROBABILITY = 0.02  # base and reference both find an end that is less likely improbable
LOOP_SHARE = 0.2  # of a reply's words, as much in loops is too much; a chorus in a song is less
LONGEST_LOOP = 30  # words
# Any sign but one that begins or joins: a full stop in any script, a bracket or quotation that is
# closed, the end of a code block or of a table's row, an emoji; perhaps in bold or italics.
WHOLE_END = re.compile(r"[^\w\s,:;(\[{<=+&/@#$^*~\u2013\u2014-][\s*_~]*$")
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")  # kana and Han have no spaces between words


@dataclass(frozen=True, slots=True)
class ReplyStatistics:
    """What a set of replies looks like; every rate is in [0, 1]."""

    empty_rate: float
    unfinished_rate: float  # no end-of-sequence token within the length limit
    cut_rate: float  # end in mid-sentence
    repeated_rate: float  # say the same words again and again
    same_rate: float  # of pairs of different questions: got the same reply
    distinct_rate: float  # different first replies over different questions
    mean_words: float
    mean_tokens: float  # without the end-of-sequence token


def reply_signs(
    base: Base,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    *,
    natural: Sequence[str | None] = (None,),
) -> Signs:
    """The signs of collapse in each reply; `natural` are adapters whose endings count as natural.

    A reply is cut if the policy ended it, its text does not end like a sentence, and every
    `natural` adapter finds that end improbable: "Paris" and a list's last item are no sentences,
    but whole. An unfinished reply is not cut: the contract's limit stopped it, not the policy.
    """
    texts = [r.text.strip() for r in responses]
    doubtful = [
        i
        for i, (r, text) in enumerate(zip(responses, texts, strict=True))
        if r.finished and text and not WHOLE_END.search(text)
    ]
    cut = _improbable_ends(base, prompts, responses, doubtful, natural)
    return {
        "empty": [not text for text in texts],
        "unfinished": [not r.finished for r in responses],
        "cut": [i in cut for i in range(len(texts))],
        "repeated": [repeats(text) for text in texts],
    }


def reply_statistics(
    prompts: Sequence[Prompt], responses: Sequence[Response], signs: Signs
) -> ReplyStatistics:
    """The rates of all signs, how alike the replies are, and how long."""
    n, texts = len(responses), [r.text for r in responses]
    questions = [prompt_key(p) for p in prompts]
    firsts = {q: same_words(t) for q, t in zip(questions[::-1], texts[::-1], strict=True)}
    return ReplyStatistics(
        **{f"{sign}_rate": sum(shown) / n for sign, shown in signs.items()},
        same_rate=same_rate(questions, texts),
        distinct_rate=len(set(firsts.values())) / len(firsts),
        mean_words=sum(len(t.split()) for t in texts) / n,
        mean_tokens=sum(len(r.token_ids) - r.finished for r in responses) / n,
    )


def same_rate(questions: Sequence[str], texts: Sequence[str]) -> float:
    """The probability that replies to two different questions are the same.

    Several replies to one question are never compared with each other. Twenty capitals asked in
    four wordings have twenty right replies to 80 questions, and a rate of 3/79; three stock
    replies have one of about 1/3.

    Source:
        Simpson 1949, Nature 163:688, the probability that two draws are of one kind.
    """

    def squares(found: Iterable[object]) -> int:
        """Ordered pairs of one kind, each with itself too."""
        return sum(n * n for n in Counter(found).values())

    replies = [same_words(t) for t in texts]
    same = squares(replies) - squares(zip(questions, replies, strict=True))
    possible = len(texts) ** 2 - squares(questions)
    return same / possible if possible else 0.0


def same_words(text: str) -> str:
    """A text's words: replies with the same ones are the same, whatever case and punctuation."""
    return " ".join(WORD.findall(text.lower())) or text.strip()


def shared_replies(questions: Sequence[str], texts: Sequence[str]) -> list[int]:
    """The positions of replies that two or more different questions got."""
    asked: defaultdict[str, set[str]] = defaultdict(set)
    for question, text in zip(questions, texts, strict=True):
        asked[same_words(text)].add(question)
    return [i for i, text in enumerate(texts) if len(asked[same_words(text)]) > 1]


def repeats(text: str) -> bool:
    """Whether a fifth of the words are in loops, or one word is more than half of eight or more.

    A loop is one to thirty words that come three times or more in a row. A list, a table or "no,
    no, no" in a long reply is none.
    """
    words = WORD.findall(text.lower()) or list("".join(text.split()))
    n, looping = len(words), set[int]()
    for size in range(1, min(LONGEST_LOOP, n // 3) + 1):
        run = 0  # how many words in a row are the one `size` words before them
        for i in range(size, n):
            run = run + 1 if words[i] == words[i - size] else 0
            if run >= 2 * size:
                looping.update(range(i - run - size + 1, i + 1))
    if n and len(looping) >= LOOP_SHARE * n:
        return True
    return n >= 8 and Counter(words).most_common(1)[0][1] > n / 2


def _improbable_ends(
    base: Base,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    positions: Sequence[int],
    natural: Sequence[str | None],
) -> set[int]:
    """Those of the positions where every `natural` policy finds any end improbable."""
    if not positions:
        return set()
    asked, ids = [prompts[i] for i in positions], [responses[i].token_ids for i in positions]
    ends = torch.full((len(ids),), -math.inf)  # the likeliest end's log-probability, (B,)
    for adapter, end in product(dict.fromkeys(natural), base.ends):
        ended = [(*row[:-1], end) for row in ids]  # any end is as good as the one it has
        last = [lp[-1].item() for lp in base.logprobs(asked, ended, adapter=adapter)]
        ends = torch.maximum(ends, torch.tensor(last))
    improbable = (ends < math.log(CUT_PROBABILITY)).tolist()
    return {i for i, bad in zip(positions, improbable, strict=True) if bad}
