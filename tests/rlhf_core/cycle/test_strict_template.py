"""A cycle on a model whose template takes no system message and no two turns of one speaker."""

from dataclasses import replace

import pytest

from feedback_store import BASE_ADAPTER, CandidateReply, FeedbackStore
from feedback_store.records import PromptMessage
from rlhf_core.cycle import run_cycle
from tests.rlhf_core.conftest import save_tiny_model
from tests.rlhf_core.templates import GEMMA, tokenizer_of

REFUSES = "{% if '7 plus 1' in m['content'] %}{{ raise_exception('No sevens') }}{% endif %}"
STRICT = replace(
    GEMMA,
    template=GEMMA.template.replace("{% for m in messages %}", "{% for m in messages %}" + REFUSES),
)
DIALOGUES = (
    ("system", "user"),
    ("user", "user"),
    ("assistant", "user"),
    ("user", "assistant", "assistant", "user"),
    ("system", "user", "assistant", "system", "user"),
)


def vote_on(store, rater, roles, number):
    """A choice between replies to a dialogue of these roles, in words of its own."""
    said = [
        PromptMessage(role=role, content=f"{role} {place} says {number}")
        for place, role in enumerate(roles)
    ]
    *_, asked = store.add_dialogue(rater, said)
    replies = [CandidateReply(f"{word} {number}", BASE_ADAPTER) for word in ("kind", "rude")]
    shown, _ = store.add_candidates(asked.id, replies, rater_id=rater)
    store.add_choice(shown, rater, "a", idempotency_key=f"{roles} {number}")


@pytest.mark.slow
def test_rows_that_the_template_would_refuse_train_and_what_it_still_refuses_is_counted(
    data, small_cycle, short, tmp_path
):
    with FeedbackStore(data / "feedback.db") as store:
        for number in range(20):
            rater = store.add_rater(f"rater-{number % 5}", kind="simulated").id
            vote_on(store, rater, DIALOGUES[number % 5], number)
    path = save_tiny_model(tmp_path / "strict", tokenizer_of(STRICT), repetition_penalty=3.0)
    quick = {
        "reward": small_cycle.reward.model_copy(update={"min_steps": 6, "epochs": 1}),
        "policy": small_cycle.policy.model_copy(update={"iterations": 1, "epochs": 1}),
    }
    row = run_cycle(
        data,
        small_cycle.model_copy(update=quick),
        reply=short.model_copy(update={"system_prompt": "be kind"}),
        model=str(path),
        quantization="none",
    )
    assert row.state in ("promoted", "rejected")
    assert row.metrics["data/refused"] == 4  # 7, 17, 27 and 37 plus 1
    assert row.metrics["data/left_out"] == 0
    assert row.metrics["iterations"] == 1
