"""The page "My votes": filters, pages, and taking votes of every kind back."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat_app.cycles.round_ahead import RoundWatch
from chat_app.errors import ConsentNeededError, InvalidRequestError, NotFoundError
from chat_app.handlers.my_votes import KINDS, PAGE, MyVotes, ShownReasons
from chat_app.handlers.progress import Progress
from chat_app.handlers.votes import Votes
from chat_app.service.chat import ChatService
from chat_app.service.voting import COMMENT_CHARS, REASONS
from feedback_store.errors import ConflictError, InvalidFeedbackError
from feedback_store.feedback.gold_questions import GoldItem
from feedback_store.feedback.search import MOST_WORDS
from feedback_store.records import CandidateReply, Message, PromptMessage
from feedback_store.splits import is_held_out_question
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.reading import english

ANN, BOB = "ann", "bob"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ChatService]:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        for rater in (ANN, BOB):
            store.add_rater(rater, consent="v1")
        yield fake_service(store, FakeEngine(), tmp_path)


@pytest.fixture
def mine(service: ChatService) -> MyVotes:
    return MyVotes(service)


def reply(store: FeedbackStore, question: str, text: str, rater: str = ANN) -> Message:
    asked = store.add_message(store.add_conversation(rater).id, "user", question)
    return store.add_message(asked.conversation_id, "assistant", text, parent_id=asked.id)


def taught(question: str) -> str:
    """The question in words that no test keeps for itself."""
    return next(q for n in range(50) if not is_held_out_question(q := f"{question} {n}?"))


def one_of_each(store: FeedbackStore) -> None:
    first = reply(store, taught("capital of Peru"), "Lima")
    store.add_thumb(first.id, ANN, 1, tags=["correct"], comment="Gracias, exacto")
    for texts in (("x", "y"), ("x", "y", "z")):
        question = taught(f"choose of {len(texts)}")
        asked = store.add_message(store.add_conversation(ANN).id, "user", question)
        shown, _ = store.add_candidates(
            asked.id, [CandidateReply(text) for text in texts], rater_id=ANN
        )
        if len(texts) == 2:
            store.add_choice(shown, ANN, "a")
        else:
            store.add_ranking(shown, ANN, [["a"], ["b", "c"]])
    store.add_demonstration(ANN, "It is Lima, in Perú.", message_id=first.id)
    old = reply(store, taught("again"), "no")
    new = store.add_message(
        old.conversation_id, "assistant", "yes", parent_id=old.parent_id, retry_of=old.id
    )
    store.compare_with_before(new.id, ANN, "better")


def test_each_kind_is_listed_with_what_was_said_and_a_link(
    service: ChatService, mine: MyVotes
) -> None:
    one_of_each(service.store)
    found = mine.found(ANN)
    assert found.given == found.found == len(found.votes) == 5
    assert {one.kind for one in found.votes} == {*KINDS}
    own = {conversation.id for conversation in service.conversations(ANN)}
    assert all(one.conversation_id in own and one.can_undo for one in found.votes)
    [thumb] = mine.found(ANN, kind="thumb").votes
    assert (thumb.about, thumb.reasons, thumb.comment) == ("Lima", ("correct",), "Gracias, exacto")
    assert sum(mine.totals(ANN).by_state.values()) == 5


def test_a_ranking_is_listed_with_its_order_and_what_was_ranked(
    service: ChatService, mine: MyVotes
) -> None:
    one_of_each(service.store)
    [ranking] = mine.found(ANN, kind="ranking").votes
    order = [[(one.label, one.content) for one in group] for group in ranking.order]
    assert order == [[("a", "x")], [("b", "y"), ("c", "z")]]
    assert ranking.conversation_id is not None and ranking.about.startswith("choose of 3")
    [choice] = mine.found(ANN, kind="choice").votes
    assert choice.order == ()


def test_a_choice_is_explained_and_listed_with_its_reasons(
    service: ChatService, mine: MyVotes
) -> None:
    one_of_each(service.store)
    for rater in (ANN, BOB):
        service.consent(rater, given=True)
    [choice] = mine.found(ANN, kind="choice").votes
    about = str(choice.candidates_id)
    assert mine.explain(ANN, about, ["clearer"], " so ") == ShownReasons(("clearer",), "so")
    [told] = mine.found(ANN, kind="choice", query="so").votes
    assert (told.id, told.reasons, told.comment) == (choice.id, ("clearer",), "so")
    assert (told.at, told.state, told.became) == (choice.at, choice.state, choice.became)
    for tags, comment in ((["wrong"], ""), ([], "x" * (COMMENT_CHARS + 1))):
        with pytest.raises(InvalidRequestError):
            mine.explain(ANN, about, tags, comment)
    with pytest.raises(NotFoundError):
        mine.explain(BOB, about, ["clearer"], "")
    mine.undo(ANN, "choice", choice.id)
    with pytest.raises(NotFoundError, match="taken back"):
        mine.explain(ANN, about, ["clearer"], "")
    service.consent(ANN, given=False)
    with pytest.raises(ConsentNeededError):
        mine.explain(ANN, about, ["clearer"], "")


@pytest.mark.parametrize("choice", ["a", "b", "tie", "both_bad"])
def test_each_choice_has_the_reasons_that_fit_it(
    service: ChatService, mine: MyVotes, choice: str
) -> None:
    asked = service.store.add_message(service.store.add_conversation(ANN).id, "user", "so?")
    replies = [CandidateReply("x"), CandidateReply("y")]
    shown, _ = service.store.add_candidates(asked.id, replies, rater_id=ANN)
    service.choose(ANN, shown, choice)
    service.consent(ANN, given=True)
    offered = REASONS[choice]
    assert mine.explain(ANN, shown, offered, "").tags == offered
    for tag in {tag for tags in REASONS.values() for tag in tags} - set(offered):
        with pytest.raises(InvalidRequestError, match="unknown reasons"):
            mine.explain(ANN, shown, [tag], "")


def test_nobody_sees_the_votes_of_another(service: ChatService, mine: MyVotes) -> None:
    one_of_each(service.store)
    assert mine.found(BOB).given == 0 == mine.found("nobody").given
    conversation = mine.found(ANN).votes[0].conversation_id
    assert conversation is not None
    assert mine.in_place(BOB, conversation) == () == mine.in_place("nobody", conversation)


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ("", {*KINDS}),
        ("lima", {"thumb", "demonstration"}),
        ("PERU lima", {"demonstration"}),
        ("exacto", {"thumb"}),
        ("choose", {"choice", "ranking"}),
        ("nothing", set()),
    ],
)
def test_a_search_finds_votes_by_their_words(
    service: ChatService, mine: MyVotes, query: str, kinds: set[str]
) -> None:
    one_of_each(service.store)
    found = mine.found(ANN, query=query)
    assert {one.kind for one in found.votes} == kinds
    assert (found.found, found.given, found.page, found.pages) == (len(kinds), 5, 0, 1)


def test_a_search_for_very_many_words_is_refused(service: ChatService, mine: MyVotes) -> None:
    one_of_each(service.store)
    assert mine.found(ANN, query="lima " * MOST_WORDS).found
    with pytest.raises(InvalidRequestError, match="at most 64"):
        mine.found(ANN, query="lima " * (MOST_WORDS + 1))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=10
)
@given(votes=st.integers(0, 3 * PAGE), page=st.integers(-2, 9))
def test_the_pages_together_have_every_vote_once(
    service: ChatService, mine: MyVotes, votes: int, page: int
) -> None:
    while (have := mine.found(ANN).given) < votes:
        service.store.add_thumb(reply(service.store, f"q{have}", f"r{have}").id, ANN, 1)
    first = mine.found(ANN)
    seen = [one.id for n in range(first.pages) for one in mine.found(ANN, page=n).votes]
    assert len(seen) == len(set(seen)) == first.given >= votes
    far = mine.found(ANN, page=page)
    assert 0 <= far.page < far.pages and len(far.votes) <= PAGE
    assert [one.at for one in first.votes] == sorted((one.at for one in first.votes), reverse=True)


def test_a_page_takes_as_many_reads_however_many_votes_there_are(
    service: ChatService, mine: MyVotes
) -> None:
    def add(votes: range) -> None:
        for n in votes:
            service.store.add_thumb(reply(service.store, f"q{n}", f"r{n}").id, ANN, 1)
        service.store.refresh_comparisons()

    def reads() -> int:
        seen: list[str] = []
        connection = service.store._file._reader.conn
        connection.set_trace_callback(seen.append)
        assert len(mine.found(ANN, page=1).votes) == PAGE
        connection.set_trace_callback(None)
        return len(seen)

    add(range(2 * PAGE))
    before = reads()
    add(range(2 * PAGE, 4 * PAGE))
    assert reads() == before


@pytest.mark.parametrize("accepted", [False, True])
def test_a_second_try_of_which_nothing_was_said_is_a_vote_once_the_person_goes_on_from_it(
    service: ChatService, mine: MyVotes, accepted: bool
) -> None:
    old = reply(service.store, taught("again"), "no")
    new = service.store.add_message(
        old.conversation_id, "assistant", "yes", parent_id=old.parent_id, retry_of=old.id
    )
    if accepted:
        service.store.add_message(old.conversation_id, "user", "more", parent_id=new.id)
    shown = mine.in_place(ANN, old.conversation_id)
    found = mine.found(ANN)
    assert len(shown) == found.given == len(found.votes) == accepted
    if accepted:
        assert english(shown[0].receipt).startswith("Counts a little: you liked this reply, or")


def test_a_thumb_alone_says_what_would_make_it_count_and_is_alone_no_more_then(
    service: ChatService, mine: MyVotes
) -> None:
    one = reply(service.store, taught("capital of Peru"), "Lima")
    service.store.add_thumb(one.id, ANN, 1)
    [alone] = mine.in_place(ANN, one.conversation_id)
    assert alone.state == "alone" and mine.totals(ANN).by_state["alone"] == 1
    assert "once another reply to this question gets the opposite thumb" in english(alone.receipt)
    other = service.store.add_message(
        one.conversation_id, "assistant", "Quito", parent_id=one.parent_id
    )
    service.store.add_thumb(other.id, ANN, -1)
    service.store.refresh_comparisons()
    pair = mine.in_place(ANN, one.conversation_id)
    assert [vote.state for vote in pair] == ["waiting", "waiting"]
    assert mine.totals(ANN).by_state["waiting"] == 2


def test_a_vote_is_in_every_count_at_once(service: ChatService, mine: MyVotes) -> None:
    progress = Progress(service)
    for votes in range(1, 4):
        asked = service.store.add_message(
            service.store.add_conversation(ANN).id, "user", taught(f"count {votes}")
        )
        replies = [CandidateReply("x"), CandidateReply("y")]
        shown, _ = service.store.add_candidates(asked.id, replies, rater_id=ANN)
        service.store.add_choice(shown, ANN, "a")
        service.round_ahead = RoundWatch(service.store, service.settings.schedule)
        [vote] = mine.in_place(ANN, asked.conversation_id)
        needed = progress.view().next.needed
        assert english(vote.receipt).endswith(f"{votes} of {needed} votes")
        assert mine.totals(ANN).ahead.new == votes


def learnt(store: FeedbackStore) -> tuple[object, ...]:
    store.refresh_comparisons()
    standing = [one["id"] for one in store.feedback_of(ANN) if one["superseded_at"] is None]
    return store.comparisons(), store.unpaired(), standing


@pytest.mark.parametrize("kind", KINDS)
def test_a_vote_of_any_kind_can_be_taken_back_and_the_undo_leaves_no_trace(
    service: ChatService, mine: MyVotes, kind: str
) -> None:
    one_of_each(service.store)
    before = learnt(service.store)
    [vote] = mine.found(ANN, kind=kind).votes
    for _ in range(2):  # a doubled click changes nothing more
        mine.undo(ANN, kind, vote.id)
    assert mine.found(ANN, kind=kind).votes == () and mine.found(ANN).given == 4
    assert learnt(service.store) != before
    for _ in range(2):
        mine.redo(ANN, kind, vote.id)
    assert learnt(service.store) == before


def test_an_undo_does_not_overrule_what_was_said_since(service: ChatService, mine: MyVotes) -> None:
    judged = reply(service.store, "q", "r")
    service.store.add_thumb(judged.id, ANN, 1)
    [vote] = mine.found(ANN).votes
    mine.undo(ANN, "thumb", vote.id)
    service.store.add_thumb(judged.id, ANN, -1)
    with pytest.raises(ConflictError, match="something else since"):
        mine.redo(ANN, "thumb", vote.id)
    assert [thumb.value for thumb in service.store.thumbs()] == [-1]


def test_a_vote_in_a_deleted_conversation_is_not_listed_and_does_not_come_back_alone(
    service: ChatService, mine: MyVotes
) -> None:
    service.store.add_thumb(reply(service.store, "q", "r").id, ANN, 1)
    [vote] = mine.found(ANN).votes
    assert vote.conversation_id is not None
    service.store.delete_conversation(ANN, vote.conversation_id)
    assert mine.found(ANN).given == 0
    with pytest.raises(ConflictError, match="deleted"):
        mine.redo(ANN, "thumb", vote.id)


def test_nobody_takes_back_the_vote_of_another_or_an_answer_to_a_gold_question(
    service: ChatService, mine: MyVotes
) -> None:
    one_of_each(service.store)
    for one in mine.found(ANN).votes:
        for act in (mine.undo, mine.redo):
            with pytest.raises(NotFoundError):
                act(BOB, one.kind, one.id)
    with pytest.raises(InvalidFeedbackError, match="kind of event"):
        mine.undo(ANN, "raters", "x")
    items = [GoldItem((PromptMessage(role="user", content="sky?"),), "blue", "green")]
    shown = service.store.gold_question(ANN, items, every=1)
    assert shown is not None
    service.store.add_choice(shown, ANN, "a")
    test = mine.found(ANN).votes[0]
    assert (test.can_undo, test.conversation_id, test.state) == (False, None, "nothing")
    with pytest.raises(InvalidFeedbackError, match="gold"):
        mine.undo(ANN, test.kind, test.id)


@pytest.mark.parametrize("first", ["right", "wrong"])
def test_an_answer_to_a_gold_question_given_anew_changes_nothing(
    service: ChatService, mine: MyVotes, first: str
) -> None:
    store, votes = service.store, Votes(service)
    votes.consent(ANN, given=True)
    one_of_each(store)
    items = [GoldItem((PromptMessage(role="user", content="sky?"),), "blue", "green")]
    shown = str(store.gold_question(ANN, items, every=1))
    gold = {reply.content: str(reply.label) for reply in store.candidates(shown)}
    answers = [gold["blue"], gold["green"]] if first == "right" else [gold["green"], gold["blue"]]
    for answer in answers:
        votes.answer(ANN, shown, answer)
    store.assess_raters()
    [rater] = [one for one in store.raters() if one.id == ANN]
    assert (rater.gold_right, rater.gold_total) == (int(first == "right"), 1)
    assert store.gold_question(ANN, items, every=1) is None


def test_the_news_count_the_votes_that_taught_the_version_that_answers(
    service: ChatService, mine: MyVotes
) -> None:
    assert (mine.news("nobody").version, mine.news("nobody").taught) == (1, 0)
    one_of_each(service.store)
    service.store.refresh_comparisons()
    cycle = service.store.start_cycle({}, pid=os.getpid())
    used = [one.id for one in service.store.comparisons(split="train")]
    service.store.use_comparisons(cycle.id, used)
    service.store.register_adapter(
        "policy-000001", kind="policy", parent="policy-000000", cycle_id=cycle.id
    )
    service.store.finish_cycle(
        cycle.id, state="promoted", adapter="policy-000001", promotion="offline"
    )
    news = mine.news(ANN)
    assert news.version == 2
    assert news.taught == mine.found(ANN, state="taught").found > 0
    assert mine.news(BOB).taught == 0
