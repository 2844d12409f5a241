"""The words of the pages: each language says what English says, and the scripts say nothing else.

A key that a script or the server puts together, such as t(`chat.reason.${tag}`), stands for all
keys of that form. The plural forms of a text are keys of their own: "votes.found.one" and so on.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

import chat_app
from chat_app.api.languages import LANGUAGES, STATIC
from feedback_store.records import ALARM_KINDS

WORDS = STATIC / "words"
OTHERS = [lang for lang in LANGUAGES if lang != "en"]
SERVER = "server.json"  # by sentences of the server; see `test_sentences.py`
FILES = sorted(file.name for file in (WORDS / "en").iterdir() if file.name != SERVER)
PAGE = "page.json"  # what all pages share
SCRIPTS = [file for file in sorted(STATIC.rglob("*.js")) if "vendor" not in file.parts]
SOURCES = [*SCRIPTS, *sorted(Path(chat_app.__file__).parent.rglob("*.py"))]

# The plural forms that a browser's Intl.PluralRules may choose, by language.
FORMS = {
    "ar": {"zero", "one", "two", "few", "many", "other"},
    "de": {"one", "other"},
    "en": {"one", "other"},
    "es": {"one", "many", "other"},
    "zh": {"other"},
}
NEEDED = {lang: forms - {"zero", "many"} for lang, forms in FORMS.items()} | {
    "ar": {"one", "two", "few", "many", "other"}
}
OF_ONE_FORM = {"compare.written", "compare.ready"}  # of 2 to 9 replies
COUNTS = (
    *("n", "count", "needed", "most", "over", "choices", "raters", "rows", "waiting", "subjects"),
    *("all", "held", "shown", "changed", "train", "prompts", "decided", "ties", "thumbs", "days"),
)  # gaps for numbers of things
SAYS_ITS_COUNT = {"few", "many", "other"}  # the others mean one number, or nearly
FORM = re.compile(rf"\.({'|'.join(sorted(set().union(*FORMS.values())))})$")
GAP = re.compile(r"{(\w+)}")

# What a language may say as English does; gaps, digits and signs beside it do not matter.
SAME = {"A", "B", "SFT"}
SAME_IN = {
    "de": {"Alarm", "Chat", "Export", "Iteration", "Option", "System", "Text", "Version"}
    | {"h", "min", "s"},
    "es": {"Chat", "No", "h", "min", "s"},
}

HEADS = ("chat", "compare", "operator", "page", "progress", "receipt", "values", "votes")
KEY = rf"(?:{'|'.join(HEADS)})\.[\w. ]*"
ANY = r"[^.]+"  # what stands for a part of a key that is put together
PLAIN_KEY = re.compile(rf'"({KEY})"')
MADE_KEY = re.compile(rf"""[`"]((?:{"|".join(HEADS)})\.[^`"\n]*{{[^`"\n]*)[`"]""")
SAID_KEY = re.compile(rf"\bt\(\s*`((?:{'|'.join(HEADS)})\.[^`]*)`")
INSERTED = re.compile(r"\$?{[^{}]*}")
NAMES = ("alt", "aria-label", "aria-description", "data-name", "data-label", "placeholder", "title")
SHOWN_ATTRIBUTE = re.compile(rf'\s(?:{"|".join(NAMES)})="([^"]*)"')
COMMENT = re.compile(r"/\*.*?\*/|(?<![^\s])//[^\n]*", re.DOTALL)
IMPORTED = re.compile(r'\bfrom "([^"]+)"')


def script(file: Path) -> str:
    """A script without its comments."""
    return COMMENT.sub("", file.read_text(encoding="utf-8"))


def words(lang: str, file: str) -> dict[str, str]:
    return dict(json.loads((WORDS / lang / file).read_text(encoding="utf-8")))


def all_words(lang: str) -> dict[str, str]:
    return {key: text for file in FILES for key, text in words(lang, file).items()}


def counted(own: Iterable[str]) -> set[str]:
    """The keys, without their forms, of the texts that depend on a count."""
    return {key.removesuffix(".other") for key in own if key.endswith(".other")}


def plain(own: dict[str, str]) -> list[str]:
    """The keys in their order, with one for all forms of a text."""
    of_count = counted(own)
    bare = ((FORM.sub("", key), key) for key in own)
    return list(dict.fromkeys(base if base in of_count else key for base, key in bare))


# The languages


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_language_has_the_files_and_the_keys_of_english_in_their_order(lang: str) -> None:
    assert {file.name for file in (WORDS / lang).iterdir()} == {*FILES, SERVER}
    for file in FILES:
        for ours, theirs in zip_longest(plain(words(lang, file)), plain(words("en", file))):
            assert ours == theirs, file


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_key_begins_with_its_page_and_stands_once(lang: str) -> None:
    for file in FILES:
        pairs = json.loads((WORDS / lang / file).read_text("utf-8"), object_pairs_hook=list)
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), file
        head = file.removesuffix(".json")
        heads = {head, "receipt"} if file == PAGE else {head}
        assert {key.split(".")[0] for key in keys} <= heads


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_text_that_depends_on_a_count_has_forms_of_its_language_alone(lang: str) -> None:
    own, english = all_words(lang), counted(all_words("en"))
    assert counted(own) == english
    for key in own:
        form = FORM.search(key)
        if form and FORM.sub("", key) in english:
            assert form[1] in FORMS[lang], key


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_text_that_depends_on_a_count_has_all_forms_that_differ(lang: str) -> None:
    own = all_words(lang)
    for key in counted(own) - OF_ONE_FORM:
        assert {f"{key}.{form}" for form in NEEDED[lang]} <= set(own), key


def test_a_number_before_a_word_in_the_plural_has_forms() -> None:
    english = all_words("en")
    for key, text in english.items():
        for name in re.findall(rf"(?<!of ){{({'|'.join(COUNTS)})}} (?!of\b)[a-z]+s\b", text):
            assert FORM.search(key) and name == "n", f"{key}: {text}"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_text_is_empty_and_each_has_the_gaps_of_the_english_one(lang: str) -> None:
    english = all_words("en")
    for key, text in all_words(lang).items():
        assert text.strip() == text != "", key
        form = FORM.search(key)
        of_count = form is not None and f"{FORM.sub('', key)}.other" in english
        wanted = set(GAP.findall(english[f"{FORM.sub('', key)}.other" if of_count else key]))
        may_miss = {"n"} if of_count and form and form[1] not in SAYS_ITS_COUNT else set()
        gaps = set(GAP.findall(text))
        assert wanted - may_miss <= gaps <= wanted, key
        assert not re.search(r"[{}]", GAP.sub("", text)), key


@pytest.mark.parametrize("lang", OTHERS)
def test_no_text_is_still_english(lang: str) -> None:
    english, same = all_words("en"), SAME | SAME_IN.get(lang, set())
    for key, text in all_words(lang).items():
        said = " ".join(re.findall(r"[^\W\d_]+", GAP.sub(" ", text)))
        if said and said not in same:
            assert text != english.get(key), key


# The scripts


def patterns(source: str) -> Iterator[str]:
    """The keys that a file puts together, as expressions that all their keys match."""
    for made in MADE_KEY.findall(source):
        parts = INSERTED.split(made)
        below_page = parts[0].partition(".")[2]
        if any(part.strip(".") for part in (below_page, *parts[1:])):  # else it would match all
            yield ANY.join(map(re.escape, parts))


def used_keys(keys: Iterable[str]) -> set[str]:
    """Those of the keys, without plural forms, that a script or the server says."""
    used: set[str] = set()
    left = set(keys)
    for file in SOURCES:
        source = file.read_text(encoding="utf-8")
        used |= left & set(PLAIN_KEY.findall(source))
        used |= {key for one in patterns(source) for key in left if re.fullmatch(one, key)}
        for prefix in re.findall(r'"([a-z_.]+\.)"', source):  # such as named("operator.check.", …)
            used |= {key for key in left if prefix.count(".") > 1 and key.startswith(prefix)}
        for head in re.findall(r"[`\"](\w+)\.\$?{[^}]*}[`\"]", source):  # such as `page.${page}`
            rest = set(re.findall(r'"(\w+)"', source))
            used |= {f"{head}.{one}" for one in rest} & left
        left -= used
    return used


def test_every_key_that_a_script_says_has_a_text() -> None:
    english = all_words("en")
    keys = set(plain(english)) | set(english)
    for file in SCRIPTS:
        source = script(file)
        for key in PLAIN_KEY.findall(source):
            assert key in keys or any(one.startswith(key) for one in keys if key[-1] == "."), key
        for made in SAID_KEY.findall(source):
            form = ANY.join(map(re.escape, INSERTED.split(made)))
            assert any(re.fullmatch(form, key) for key in keys), f"{file.name}: {made}"


@pytest.mark.parametrize("kind", ALARM_KINDS)
def test_every_alarm_has_a_name_and_a_sentence(kind: str) -> None:
    assert {f"operator.alarm.{kind}", f"operator.alarm.said.{kind}"} <= all_words("en").keys()


def loaded(file: Path, found: set[Path]) -> set[Path]:
    """A script and all that it imports."""
    if file not in found and "vendor" not in file.parts:
        found.add(file)
        for other in IMPORTED.findall(file.read_text(encoding="utf-8")):
            loaded((file.parent / other).resolve(), found)
    return found


@pytest.mark.parametrize("page", [file.removesuffix(".json") for file in FILES if file != PAGE])
def test_a_page_says_texts_of_its_own_and_of_all_pages_alone(page: str) -> None:
    for file in loaded((STATIC / page / "main.js").resolve(), set()):
        source = script(file)
        said = [*PLAIN_KEY.findall(source), *SAID_KEY.findall(source)]
        assert {key.split(".")[0] for key in said} <= {page, "page", "receipt"}, file


def test_every_text_is_said_by_a_script_or_the_server() -> None:
    keys = plain(all_words("en"))
    assert set(keys) == used_keys(keys)


def templates(source: str) -> Iterator[str]:
    """The htm templates of a script, those within others too; a gap stands for what is inserted."""
    for start in re.finditer(r"html`", source):
        yield _template(source, start.end())[0]


def _template(source: str, at: int) -> tuple[str, int]:
    """The text of a template that begins at a place, and where it ends."""
    text = ""
    while source[at] != "`":
        if source.startswith("${", at):
            text, at = f"{text}\0", _inserted(source, at + 2)
        else:
            text, at = text + source[at], at + 1
    return text, at + 1


def _inserted(source: str, at: int) -> int:
    """Where what is inserted in a template ends."""
    while source[at] != "}":
        if source[at] == "{":
            at = _inserted(source, at + 1)
        elif source[at] == "`":
            at = _template(source, at + 1)[1]
        elif source[at] in "\"'":
            at = source.index(source[at], at + 1) + 1
        else:
            at += 1
    return at + 1


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_script_shows_no_words_of_its_own(file: Path) -> None:
    source = script(file)
    for template in templates(source):
        for name in SHOWN_ATTRIBUTE.findall(template):
            assert not re.search(r"[^\W\d_]", name), template
        shown = re.sub(r"<kbd[^>]*>\w</kbd>", "", template)  # the name of a key
        shown = re.sub(r"<[^<>]*>", " ", shown)
        assert not re.search(r"[^\W\d_]", shown), template
    assert not re.search(r"\b(?:toast|speak)\([\"`][^`\"$]*[a-z]", source)


def test_the_words_of_a_template_are_found() -> None:
    source = 'html`<p title="Hi">${a ? html`<b>${x}</b> so` : "no"} and ${f({ a: "}" })}</p>`'
    assert list(templates(source)) == ['<p title="Hi">\0 and \0</p>', "<b>\0</b> so"]


def test_whatever_is_audited_has_words() -> None:
    call = re.compile(r"""\baudit\((?:db|self\._?db|store), ?"([a-z_]+)\"""")
    sources = [*Path("feedback_store").rglob("*.py"), *Path("chat_app").rglob("*.py")]
    done = {name for file in sources for name in call.findall(file.read_text(encoding="utf-8"))}
    known = {key.removeprefix("operator.act.") for key in all_words("en")}
    assert len(done) > 10 and done <= known, done - known
