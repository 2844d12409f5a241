"""A cycle learns from the copy of a store what it would learn from the store."""

from dataclasses import asdict

from feedback_store import BASE_ADAPTER, CandidateReply, FeedbackStore
from feedback_store.feedback.gold_questions import GoldItem
from rlhf_core.config import CycleSettings, GateSettings
from rlhf_core.cycle.snapshot import take_snapshot

SETTINGS = CycleSettings(min_comparisons=10, gate=GateSettings(min_prompts=2))
GOLD = GoldItem(({"role": "user", "content": "Which is right?"},), "this one", "that one")


def live(store: FeedbackStore) -> None:
    """A crowd that does everything: ranks, thumbs, goes on, asks without voting, takes tests."""
    for number in range(24):
        rater = store.add_rater(f"person-{number % 7}", consent="v1", origin=f"o{number % 3}").id
        conversation = store.add_conversation(rater).id
        parent = None
        for turn in range(1 + number % 2):
            asked = store.add_message(
                conversation, "user", f"Ask {number // 2} {turn}", parent_id=parent
            )
            replies = [CandidateReply(f"{w} {number}", BASE_ADAPTER) for w in ("good", "so", "bad")]
            shown, messages = store.add_candidates(asked.id, replies, rater_id=rater)
            parent = messages[0].id
        if number % 3:
            store.add_ranking(shown, rater, [["a"], ["b", "c"]])
        if number % 4 == 0:
            store.add_thumb(messages[1].id, rater, -1, comment="dull")
        store.add_message(conversation, "user", f"And then {number}?", parent_id=parent)
        gold = store.gold_question(rater, [GOLD], every=1)
        if gold:
            store.add_choice(gold, rater, "ab"[number % 2], seconds=9.0)
    store.quarantine("person-6", by="operator", reason="sells votes")
    store.add_demonstration("person-1", "a better one", message_id=messages[2].id)


def test_a_snapshot_of_the_copy_is_the_snapshot_of_the_store(data, tmp_path):
    with FeedbackStore(data / "feedback.db") as store:
        live(store)
        store.copy_evidence(tmp_path / "copy.db", unvoted=SETTINGS.data.most_unvoted_prompts)
        here = take_snapshot(store, SETTINGS)
    with FeedbackStore(tmp_path / "copy.db") as copy:
        there = take_snapshot(copy, SETTINGS)
    assert here.unvoted_prompts and here.train_thumbs and here.train
    one, other = asdict(here), asdict(there)
    for name in one:
        assert one[name] == other[name], name
