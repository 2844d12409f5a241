import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.errors import InvalidInputError
from rlhf_core.worlds.checkable.prompts import CheckablePrompt, read_prompts
from rlhf_core.worlds.checkable.requests import built_in_requests
from rlhf_core.worlds.checkable.world import CheckableWorld

IFEVAL = {
    "key": 1001,
    "prompt": "Plan a trip to Japan without commas.",
    "instruction_id_list": ["punctuation:no_comma", "language:response_language"],
    "kwargs": [{}, {"language": "en"}],
}


def written(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_the_built_in_requests_are_many_and_different_and_some_are_kept() -> None:
    texts = [prompt.text for prompt in built_in_requests()]
    assert len(texts) == len(set(texts)) >= 200
    assert all(text[-1] in '.?!"' and "{" not in text for text in texts)
    world = CheckableWorld.of()
    assert len(world.asked) + len(world.kept) == len(texts)
    assert 0.2 < len(world.kept) / len(texts) < 0.4


@given(st.text(min_size=1))
def test_whether_a_prompt_is_kept_depends_on_its_text_alone(text: str) -> None:
    (taste,) = CheckableWorld.of(["json"]).tastes
    assert CheckablePrompt(text).kept == CheckablePrompt(text, (taste,)).kept


def test_every_form_of_file_is_read(tmp_path: Path) -> None:
    lines = [
        IFEVAL,
        {"question_id": 81, "turns": ["Write a blog post.", "Now shorter."]},
        {
            "messages": [
                {"role": "system", "content": "Sh."},
                {"role": "user", "content": "Hi!"},
            ]
        },
        {"text": "Tell me a joke."},
        "Just a text.",
    ]
    texts = [str(IFEVAL["prompt"]), "Write a blog post.", "Hi!", "Tell me a joke.", "Just a text."]
    as_lines = "\n\n".join(json.dumps(line) for line in lines) + "\n"
    prompts = read_prompts(written(tmp_path / "p.jsonl", as_lines))
    assert [prompt.text for prompt in prompts] == texts
    assert [taste.name for taste in prompts[0].instructions] == ["punctuation:no_comma"]
    assert prompts[0].unchecked == ("language:response_language",)
    assert read_prompts(written(tmp_path / "p.json", json.dumps(lines))) == prompts
    plain = read_prompts(written(tmp_path / "p.txt", "\ufeffHi!\r\n\r\n{not JSON}\r\nHi!\r\n"))
    assert [prompt.text for prompt in plain] == ["Hi!", "{not JSON}"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.jsonl", '"ok"\n\n{"prompt": ', r"p.jsonl line 3: not JSON \(Expecting value\)"),
        ("p.jsonl", '"ok"\n3', "line 2: a int; give a text"),
        ("p.jsonl", '"ok"\n{"question": "?"}', "line 2: an object without a prompt"),
        ("p.jsonl", '{"prompt": " "}', "line 1: the prompt is an empty text"),
        ("p.jsonl", '{"prompt": ["a"]}', "line 1: the prompt is a list"),
        ("p.jsonl", '{"turns": []}', "line 1: an object without a prompt"),
        ("p.jsonl", '{"messages": [{"role": "system"}]}', "line 1: an object without a prompt"),
        (
            "p.jsonl",
            '{"prompt": "a", "instruction_id_list": ["x:y"], "kwargs": [{}]}',
            "line 1: instruction 'x:y' is unknown",
        ),
        ("p.jsonl", '{"prompt": "a", "instruction_id_list": "x"}', "line 1: `instruction_id_list`"),
        ("p.json", '["ok",\n"x"', "p.json line 2: not JSON"),
        ("p.json", '{"prompt": "a"}', "line 1: a dict; a .json file is one list"),
        ("p.json", '["ok", 3]', "line 2: a int"),
        ("p.txt", "\n \n", "has no prompt"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_with_the_lines_number(
    tmp_path: Path, name: str, content: str, says: str
) -> None:
    with pytest.raises(InvalidInputError, match=says) as refused:
        read_prompts(written(tmp_path / name, content))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_text_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"one\ntw\xe4")
    with pytest.raises(InvalidInputError, match=r"p.txt line 2: not UTF-8"):
        read_prompts(tmp_path / "p.txt")
    with pytest.raises(InvalidInputError, match=r"none.txt cannot be read \(No such file"):
        read_prompts(tmp_path / "none.txt")


def test_prompts_with_instructions_bring_their_own_tastes(tmp_path: Path) -> None:
    rows = [IFEVAL | {"prompt": f"Plan trip number {n}."} for n in range(30)]
    alone = IFEVAL | {"instruction_id_list": ["language:response_language"], "kwargs": [{}]}
    file = written(tmp_path / "p.jsonl", "\n".join(map(json.dumps, [*rows, alone])))
    world = CheckableWorld.of(file=file)
    assert (world.tastes, len(world.prompts)) == ((), 30)  # nothing of the last can be checked
    assert world.facts()["unchecked"] == {"language:response_language": 30}
    world = CheckableWorld.of(["json"], file)
    assert ([t.text for t in world.tastes], len(world.prompts)) == (["json"], 31)


def test_a_world_needs_prompts_to_ask_and_prompts_to_keep(tmp_path: Path) -> None:
    file = written(tmp_path / "p.txt", "Only one.")
    with pytest.raises(InvalidInputError, match=r"1 prompts in .* are too few"):
        CheckableWorld.of(file=file)
