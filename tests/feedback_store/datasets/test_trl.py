"""TRL's trainers read the exports as they are."""

from pathlib import Path

import datasets
import pytest

from feedback_store.datasets.trl_rows import ExportOptions

ROOT = Path(__file__).parents[3]
STARTER = ROOT / "rlhf_core" / "worlds" / "starter" / "model"


@pytest.fixture
def told(store, ann):
    """Comparisons, thumbs on both sides and demonstrations, four of each."""
    for i in range(4):
        ann.choose(ann.shown(f"question {i}?", f"yes {i}", f"no {i}"), "ab"[i % 2])
        ann.thumb(ann.reply(ann.ask(f"and {i}?"), f"so {i}"), 1 if i % 2 else -1)
        prompt = [{"role": "user", "content": f"write {i}"}]
        store.add_demonstration("ann", f"line {i}", prompt=prompt, idempotency_key=f"d{i}")
    store.refresh_comparisons()
    return store


def tiny(trainer, folder):
    """A random model with the starter's vocabulary, on disk: DPO loads it a second time."""
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=1536,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=1,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    kind = LlamaForSequenceClassification if trainer == "Reward" else LlamaForCausalLM
    kind(config).save_pretrained(folder)
    return kind.from_pretrained(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of TRL and what it stands on
@pytest.mark.parametrize("metadata", [False, True], ids=["plain", "metadata"])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("form", "trainer"),
    [
        ("preference", "Reward"),
        ("preference", "DPO"),
        ("unpaired", "KTO"),
        ("sft", "SFT"),
    ],
)
def test_a_trainer_takes_two_steps_on_an_export(told, tmp_path, form, trainer, suffix, metadata):
    import trl
    from transformers import AutoTokenizer

    file = tmp_path / f"data.{suffix}"
    options = ExportOptions(split="all", with_metadata=metadata)  # too few for a split
    assert told.export_file(file, form, options).rows >= 4
    data = datasets.load_dataset(
        "json" if suffix == "jsonl" else "parquet",
        data_files=str(file),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    config = getattr(trl, f"{trainer}Config")(
        output_dir=str(tmp_path / "out"),
        max_steps=2,
        per_device_train_batch_size=2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
    )
    trained = getattr(trl, f"{trainer}Trainer")(
        model=tiny(trainer, tmp_path / "model"),
        args=config,
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(STARTER),
    )
    trained.train()
    assert trained.state.global_step == 2
    losses = [entry["loss"] for entry in trained.state.log_history if "loss" in entry]
    assert len(losses) == 2 and all(loss > 0 for loss in losses)
