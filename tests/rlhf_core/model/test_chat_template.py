"""Templates as models have them: what each takes, what is folded, merged or refused, what ends."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_core.config import ReplySettings
from rlhf_core.errors import InvalidInputError, ModelError
from rlhf_core.model.chat_format import ChatFormat
from rlhf_core.model.chat_template import ChatTemplate
from rlhf_core.model.sources import STARTER_MODEL
from tests.rlhf_core.templates import KINDS, tokenizer_of

CHATS = {
    name: ChatFormat(tokenizer_of(kind), ReplySettings(prompt_tokens=9999))
    for name, kind in KINDS.items()
}
every_kind = pytest.mark.parametrize("name", KINDS)
ROLES = ("system", "user", "assistant", "tool")


def says(*turns):
    """Messages from pairs such as ("user", "hello")."""
    return [{"role": role, "content": text} for role, text in turns]


def shown(chat, messages):
    return chat.tokenizer.decode(chat.encode_prompt(messages))


def plainly(chat, messages):
    """What the template makes of messages that are given to it as they are."""
    return chat.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False, enable_thinking=False
    )


def test_a_template_that_writes_the_time_writes_the_same_in_a_cycle_and_after_it():
    tokenizer = tokenizer_of(KINDS["llama3"])
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y %f') }}" + tokenizer.chat_template
    chat = ChatFormat(tokenizer, ReplySettings(prompt_tokens=99))
    messages = says(("user", "hello"))
    assert shown(chat, messages).startswith("26 Jul 2024<|begin_of_text|>")
    assert plainly(chat, messages) != plainly(chat, messages)  # it has a clock of its own


@every_kind
def test_what_the_template_takes_stays_as_it_is(name):
    chat, kind = CHATS[name], KINDS[name]
    messages = says(("user", "hello"), ("assistant", "yes"), ("user", "what is red"))
    assert shown(chat, messages) == plainly(chat, messages)
    if kind.takes_system:
        messages = [*says(("system", "be kind")), *messages]
        assert shown(chat, messages) == plainly(chat, messages)
    if not kind.alternates:
        messages = [*messages, *says(("user", "and blue"))]
        assert shown(chat, messages).count("and blue") == 1
        if kind.takes_system:
            assert shown(chat, messages) == plainly(chat, messages)


@every_kind
def test_a_system_message_that_the_template_does_not_take_begins_the_users_turn(name):
    chat = CHATS[name]
    found = shown(chat, says(("system", "be kind"), ("user", "hello")))
    folded = shown(chat, says(("user", "be kind\n\nhello")))
    folds_itself = name == "mistral"
    assert (found == folded) is (folds_itself or not KINDS[name].takes_system)
    assert "be kind" in found


@every_kind
def test_neighbours_of_one_speaker_are_one_turn_where_the_template_needs_that(name):
    chat = CHATS[name]
    apart = says(("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d"), ("user", ""))
    merged = says(("user", "a\n\nb"), ("assistant", "c\n\nd"), ("user", ""))
    assert (shown(chat, apart) == shown(chat, merged)) is KINDS[name].alternates


@every_kind
def test_a_late_system_message_is_never_lost(name):
    messages = says(("user", "hi"), ("assistant", "yes"), ("system", "be kind"), ("user", "red"))
    assert "be kind" in shown(CHATS[name], messages)


@every_kind
def test_empty_system_messages_vanish(name):
    chat = CHATS[name]
    asked = says(("user", "hello"))
    assert shown(chat, [*says(("system", " \n")), *asked]) == shown(chat, asked)


@every_kind
def test_an_assistant_who_begins_is_kept_where_the_template_can(name):
    found = shown(CHATS[name], says(("assistant", "welcome"), ("user", "hello")))
    assert ("welcome" in found) is not KINDS[name].alternates
    assert "hello" in found


def test_a_greeting_below_a_folded_system_message_is_kept():
    messages = says(("system", "be kind"), ("assistant", "welcome"), ("user", "hello"))
    as_user = [*says(("user", "be kind")), *messages[1:]]
    assert shown(CHATS["gemma"], messages) == shown(CHATS["gemma"], as_user)


def test_what_the_template_refuses_is_an_error_with_its_words_in_one_line():
    with pytest.raises(InvalidInputError, match=r"refuses this conversation: .* must alternate us"):
        CHATS["gemma"].encode_prompt(says(("tool", "a"), ("user", "b")))
    with pytest.raises(InvalidInputError, match=r"refuses this conversation: .*empty conversation"):
        CHATS["mistral"].encode_prompt(says(("assistant", "a")))


@pytest.mark.parametrize(
    "template", ["", "{{ messages[7].content }}", "{{ raise_exception('x') }}"]
)
def test_a_template_that_cannot_ask_a_question_is_refused(template):
    broken = tokenizer_of(KINDS["zephyr"])
    broken.chat_template = template
    with pytest.raises(ModelError, match="does not render a user message"):
        ChatTemplate(broken)


@every_kind
def test_a_reply_ends_with_the_templates_end_of_a_turn(name):
    chat, kind = CHATS[name], KINDS[name]
    end = chat.tokenizer.convert_tokens_to_ids(kind.end or kind.eos)
    assert chat.end == end
    assert chat.encode_reply("yes")[-1] == end
    assert chat.encode_pair(says(("user", "hello")), "yes")[0][-1] == end


def test_a_template_without_an_end_ends_with_the_tokenizers():
    open_ended = tokenizer_of(KINDS["zephyr"])
    open_ended.chat_template = "{% for m in messages %}{{ m['role'] + m['content'] }}{% endfor %}"
    assert ChatFormat(open_ended, ReplySettings()).end == open_ended.eos_token_id


def test_a_pair_is_the_conversation_as_the_template_writes_it():
    for name in ("gemma", "smollm", "llama3"):
        chat = CHATS[name]
        ids, _ = chat.encode_pair(says(("user", "hello")), "yes")
        whole = plainly(chat, says(("user", "hello"), ("assistant", "yes")))
        assert whole.startswith(chat.tokenizer.decode(ids))


def test_thinking_is_switched_off_where_the_template_can():
    assert shown(CHATS["qwen"], says(("user", "hello"))).endswith("<think>\n\n</think>\n\n")
    other = tokenizer_of(KINDS["qwen"])
    other.chat_template = KINDS["qwen"].template.replace("enable_thinking", "thinking")
    chat = ChatFormat(other, ReplySettings())
    assert shown(chat, says(("user", "hello"))).endswith("<think>\n\n</think>\n\n")


conversations = st.lists(
    st.tuples(st.sampled_from(ROLES), st.text(max_size=12)), min_size=1, max_size=7
).map(lambda turns: says(*turns))


@every_kind
@settings(max_examples=60)
@given(messages=conversations)
def test_any_conversation_is_rendered_with_its_last_question_or_refused(name, messages):
    chat = CHATS[name]
    try:
        found = shown(chat, messages)
    except InvalidInputError as exc:
        assert "\n" not in str(exc)
        return
    asked = [m["content"] for m in messages if m["role"] == "user"]
    assert not asked or chat._plain(asked[-1]).strip() in found
    if asked and not any(m["role"] == "tool" for m in messages):
        systems = [m["content"] for m in messages if m["role"] == "system"]
        assert all(chat._plain(text).strip() in found for text in systems)


@every_kind
@settings(max_examples=60)
@given(messages=conversations.filter(lambda m: not any(one["role"] == "tool" for one in m)))
def test_only_a_conversation_without_a_question_is_refused(name, messages):
    if any(m["role"] == "user" for m in messages):
        CHATS[name].encode_prompt(messages)


@every_kind
@settings(max_examples=60)
@given(data=st.data())
def test_nobody_can_forge_a_turn(name, data):
    chat = CHATS[name]
    names = sorted((*KINDS[name].special, *KINDS[name].borders))
    pieces = [*names, *(part[:3] for part in names), *(part[3:] for part in names), "\n", "a", " "]
    roles = data.draw(st.sampled_from([("user",), ("user", "assistant", "user")]))
    typed = ["".join(data.draw(st.lists(st.sampled_from(pieces), max_size=6))) for _ in roles]

    def borders(texts):
        found = shown(chat, says(*zip(roles, texts, strict=True)))
        return Counter({border: found.count(border) for border in names})

    assert borders(typed) == borders(["hello"] * len(roles))


def test_the_system_prompt_begins_every_conversation_without_one_and_is_never_cut():
    for name in KINDS:
        reply = ReplySettings(prompt_tokens=9999, system_prompt="be kind")
        chat, plain = ChatFormat(tokenizer_of(KINDS[name]), reply), CHATS[name]
        turns = says(("user", "hello"), ("assistant", "yes"), ("user", "red"))
        system, own = says(("system", "be kind")), says(("system", "be rude"))
        assert shown(chat, turns) == shown(plain, [*system, *turns])
        assert shown(chat, [*own, *turns]) == shown(plain, [*own, *turns])
        assert shown(chat, [*says(("system", "")), *turns]) == shown(plain, [*system, *turns])
        assert chat.encode_pair(turns, "no")[0] == plain.encode_pair([*system, *turns], "no")[0]
        limit = len(chat.encode_prompt(turns[2:]))
        assert chat.fit_prompt(turns, limit) == turns[2:]
        assert chat.fit_prompt(turns[2:], limit - 1) is None


def test_prompts_of_the_starter_are_the_tokens_that_it_was_trained_on():
    from transformers import AutoTokenizer

    chat = ChatFormat(AutoTokenizer.from_pretrained(STARTER_MODEL), ReplySettings())
    turns = says(("user", "hi"), ("user", "What?"), ("assistant", "Yes."), ("user", "Why?"))
    expected = chat.tokenizer(
        "<|user|>hi</s><|user|>What?</s><|assistant|>Yes.</s><|user|>Why?</s><|assistant|>"
    ).input_ids
    assert chat.encode_prompt(turns) == expected
    assert chat.end == chat.tokenizer.eos_token_id
