"""A real server on a model with a strict chat template, and what a system prompt leaves behind."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_app.errors import InvalidRequestError
from chat_app.handlers.talk import Talk
from feedback_store.records import Conversation
from tests.chat_app.handlers.talking import ANN, say
from tests.chat_app.serving import Running, running

STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if 'secret' in m['content'] %}{{ raise_exception('No secrets,\n please') }}{% endif %}"
    "<{{ m['role'][0] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)
REFUSED = (
    "the model cannot take this conversation: "
    "the model's chat template refuses this conversation: No secrets, please"
)


@pytest.fixture(scope="module")
def strict(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server on a model with a strict template."""
    model = tmp_path_factory.mktemp("strict") / "model"
    shutil.copytree(tiny_model, model)
    (model / "chat_template.jinja").write_text(STRICT)
    with running(tmp_path_factory.mktemp("data"), model) as service:
        yield service


def said(*roles: str, text: str = "hello") -> list[dict[str, str]]:
    return [{"role": role, "content": f"{text} {i}"} for i, role in enumerate(roles)]


def post(service: Running, route: str, messages: list[dict[str, str]], **more: Any) -> Any:
    with service.client() as client:
        return client.post(f"/v1/{route}", json={"messages": messages, "max_tokens": 4, **more})


def conversations(service: Running) -> list[Conversation]:
    rater = service.identity.caller({"authorization": "Bearer alice"}, {}, here=True).rater_id
    return service.service.store.conversations(rater)


def sampling_of(service: Running, messages: list[dict[str, str]]) -> dict[str, Any]:
    """How the reply to a dialogue was sampled, by its row."""
    answer = post(service, "chat/completions", messages)
    assert answer.status_code == 200, answer.text
    return service.service.store.message(answer.json()["id"]).sampling or {}


@pytest.mark.parametrize(
    "roles",
    [("system", "user"), ("user", "user"), ("assistant", "user"), ("user", "assistant", "user")],
)
def test_every_dialogue_is_answered(strict: Running, roles: tuple[str, ...]) -> None:
    assert post(strict, "chat/completions", said(*roles)).status_code == 200


@pytest.mark.parametrize("route", ["chat/completions", "candidates"])
@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_what_the_template_refuses_is_a_400_with_its_words_and_nothing_is_stored(
    strict: Running, route: str, more: dict[str, bool]
) -> None:
    before = conversations(strict)
    answer = post(strict, route, said("user", text="a secret"), **more)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, REFUSED)
    assert conversations(strict) == before


def test_an_answer_to_what_the_template_refuses_is_a_400_too(strict: Running) -> None:
    with strict.client() as client:
        for text, status in (("a secret", 400), ("hello", 200)):
            shown = {"messages": said("user", text=text), "content": "no", "idempotency_key": text}
            answer = client.post("/v1/demonstrations", json=shown)
            assert answer.status_code == status, answer.text
            if status == 400:
                assert answer.json()["error"]["message"] == REFUSED


def test_the_page_says_what_the_template_refuses_and_stores_nothing(strict: Running) -> None:
    talk = Talk(strict.service)
    with pytest.raises(InvalidRequestError) as refused:
        say(talk, "a secret")
    assert str(refused.value) == REFUSED
    assert strict.service.conversations(ANN) == []
    answered = say(talk, "hello")
    assert len(answered.messages) == 2
    with pytest.raises(InvalidRequestError) as refused:
        say(talk, "a secret", answered)
    assert str(refused.value) == REFUSED
    assert talk.open(ANN, str(answered.conversation_id)) == answered


def test_a_wrong_sampling_setting_leaves_nothing_stored_either(strict: Running) -> None:
    before = conversations(strict)
    answer = post(strict, "chat/completions", said("user"), temperature=9)
    assert answer.status_code == 400
    assert conversations(strict) == before


def test_replies_under_two_system_prompts_name_different_ones(
    tiny_model: Path, tmp_path: Path
) -> None:
    names = {}
    for text in ("Be kind.", "Be brief.", ""):
        with running(
            tmp_path / f"data{len(text)}", tiny_model, reply={"system_prompt": text}
        ) as at:
            names[text] = sampling_of(at, said("user"))["system_prompt"]
            assert sampling_of(at, said("system", "user"))["system_prompt"] is None
    assert names["Be kind."] == hashlib.sha256(b"Be kind.").hexdigest()[:12]
    assert len(set(names.values())) == 3 and names[""] is None


def test_a_system_prompt_changes_the_reply_as_a_message_of_its_own_would(
    tiny_model: Path, tmp_path: Path
) -> None:
    begin = [{"role": "system", "content": "Be kind."}]
    with running(tmp_path / "one", tiny_model, reply={"system_prompt": "Be kind."}) as at:
        found = post(at, "chat/completions", said("user"), seed=3).json()
    with running(tmp_path / "two", tiny_model) as at:
        bare = post(at, "chat/completions", said("user"), seed=3).json()
        own = post(at, "chat/completions", begin + said("user"), seed=3).json()
    texts = [answer["choices"][0]["message"]["content"] for answer in (found, own, bare)]
    assert texts[0] == texts[1] != texts[2]
    assert found["usage"] == own["usage"] != bare["usage"]
