"""The feed tells in order what happens, each once, and nothing of what was erased."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from feedback_store.errors import StoreOpenError
from feedback_store.feedback.gold_questions import GoldItem
from feedback_store.records import HAPPENINGS, VOTES, Alarm, CandidateReply, Message, PromptMessage
from feedback_store.registry.feed import FollowedFeed
from feedback_store.store import FeedbackStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        opened.add_rater("ann", consent="1")
        opened.add_rater("bob")
        yield opened


def reply_to(store: FeedbackStore, rater: str, text: str = "hi") -> Message:
    [asked] = store.add_dialogue(rater, [PromptMessage(role="user", content="hello")])
    answer = {"parent_id": asked.id, "adapter": "policy-000000"}
    return store.add_message(asked.conversation_id, "assistant", text, **answer)  # type: ignore[arg-type]


def test_each_kind_of_vote_is_told_in_order_and_counted(store: FeedbackStore) -> None:
    begun = store.last_happening()
    reply = reply_to(store, "ann")
    replies = [CandidateReply(text, adapter="policy-000000") for text in ("one", "two")]
    shown, _ = store.add_candidates(str(reply.parent_id), replies, rater_id="ann")
    store.add_thumb(reply.id, "ann", 1)
    store.add_thumb(reply.id, "ann", -1)
    store.add_choice(shown, "ann", "b")
    store.add_ranking(shown, "ann", [["b"], ["a"]])
    store.add_demonstration("ann", "better", message_id=reply.id)
    found = store.happenings(begun, VOTES)
    kinds = ["thumb", "thumb", "choice", "ranking", "demonstration"]
    assert [happening.kind for happening in found] == kinds
    told = [happening.facts["said"] for happening in found if happening.facts]
    assert told == ["up", "down", "b", "", ""]
    counts = {("thumb", "up"): 1, ("thumb", "down"): 1, ("choice", "b"): 1}
    assert store.vote_counts() == counts | {("ranking", ""): 1, ("demonstration", ""): 1}


def test_an_answer_to_a_gold_question_is_marked(store: FeedbackStore) -> None:
    item = GoldItem((PromptMessage(role="user", content="2 + 2?"),), "4", "5")
    shown = store.gold_question("ann", [item], every=None)
    assert shown is not None
    store.add_choice(shown, "ann", "a")
    plain, _ = store.add_candidates(
        str(reply_to(store, "ann").parent_id),
        [CandidateReply(text, adapter="policy-000000") for text in ("one", "two")],
        rater_id="ann",
    )
    store.add_choice(plain, "ann", "a")
    found = store.happenings(0, ["choice"])
    assert [one.facts and one.facts.get("gold") for one in found] == [True, None]


def test_the_same_vote_sent_twice_is_told_once(store: FeedbackStore) -> None:
    reply = reply_to(store, "ann")
    for _ in range(2):
        store.add_thumb(reply.id, "ann", 1, idempotency_key="once")
    assert len(store.happenings(0, ["thumb"])) == 1


def test_texts_are_told_only_if_they_are_wanted(store: FeedbackStore) -> None:
    store.add_thumb(reply_to(store, "ann", "zanzibar").id, "ann", 1, comment="pemba")
    [plain], [full] = (store.happenings(0, VOTES, texts=texts) for texts in (False, True))
    assert "zanzibar" not in str(plain) and "pemba" not in str(plain)
    assert full.facts is not None
    assert (full.facts["asked"], full.facts["comment"]) == ("hello", "pemba")
    assert full.facts["replies"][0]["content"] == "zanzibar"


def test_nothing_is_told_of_a_vote_without_consent_until_there_is_one(store: FeedbackStore) -> None:
    store.add_thumb(reply_to(store, "bob").id, "bob", 1)
    assert [happening.facts for happening in store.happenings(0, VOTES)] == [None]


def test_nothing_is_left_of_an_erased_vote_and_no_number_comes_twice(store: FeedbackStore) -> None:
    store.add_thumb(reply_to(store, "ann").id, "ann", 1)
    [known] = store.happenings(0, VOTES)
    store.forget("ann")  # which compacts the file, too
    assert store.happenings(0, VOTES) == []
    store.add_rater("eve", consent="1")
    store.add_thumb(reply_to(store, "eve").id, "eve", 1)
    [new] = store.happenings(known.number, VOTES)
    assert new.number > known.number


def test_nothing_is_told_of_a_vote_in_a_deleted_conversation(store: FeedbackStore) -> None:
    reply = reply_to(store, "ann")
    store.add_thumb(reply.id, "ann", 1)
    store.delete_conversation("ann", reply.conversation_id)
    assert [happening.facts for happening in store.happenings(0, VOTES)] == [None]


def test_alarms_ended_cycles_and_what_is_served_are_told(store: FeedbackStore) -> None:
    begun = store.last_happening()
    assert store.raise_alarm(Alarm("kl", "large"), key="1")
    assert not store.raise_alarm(Alarm("kl", "large"), key="1")
    cycle = store.start_cycle({}, pid=1)
    store.finish_cycle(cycle.id, state="failed", reasons=("it broke",))
    store.register_adapter("policy-000001", kind="policy", state="published")
    store.serve("policy-000001", by="test")
    found = store.happenings(begun, HAPPENINGS)
    assert [happening.kind for happening in found] == ["alarm", "cycle", "served"]
    alarm, ended, served = (happening.facts or {} for happening in found)
    assert (alarm["text"], ended["state"]) == ("large", "failed")
    assert (served["adapter"], served["previous"]) == ("policy-000001", "policy-000000")


def test_why_a_cycle_failed_is_told_only_with_texts_and_why_it_was_rejected_always(
    store: FeedbackStore,
) -> None:
    for state in ("failed", "rejected"):
        store.finish_cycle(store.start_cycle({}, pid=1).id, state=state, reasons=("zanzibar",))
    for texts, wanted in ((False, [(), ("zanzibar",)]), (True, [("zanzibar",)] * 2)):
        found = store.happenings(0, ["cycle"], texts=texts)
        assert [one.facts["reasons"] for one in found if one.facts] == wanted


def test_who_follows_reads_beside_a_writer_and_changes_nothing(store: FeedbackStore) -> None:
    with closing(FollowedFeed(store._file.path)) as feed:
        begun = feed.last_happening()
        store.add_thumb(reply_to(store, "ann").id, "ann", 1)
        assert [happening.kind for happening in feed.happenings(begun, VOTES)] == ["thumb"]
        with store._file.write():  # nobody waits for the other
            assert feed.last_happening() > begun


def test_a_file_of_others_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "feedback.db").write_bytes(b"")
    with pytest.raises(StoreOpenError, match="earlier version"):
        FollowedFeed(tmp_path / "feedback.db")
