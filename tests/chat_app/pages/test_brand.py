"""What an operator may make of the pages: name, logo, colour, texts."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chat_app.pages.brand import CONTRAST, DARK, LIGHT, _parsed, contrast, logo_of, style_of
from chat_app.pages.shell import Shell, add_pages
from chat_app.settings import BrandSettings, Settings, load_settings

PIXEL = b"<svg xmlns='http://www.w3.org/2000/svg'/>"


def client_of(brand: BrandSettings, data: Path) -> TestClient:
    app = FastAPI()
    settings = Settings(data=data, brand=brand)
    add_pages(app, Shell(settings, ("chat", "votes")))
    return TestClient(app)


@given(st.from_regex("#[0-9a-fA-F]{6}", fullmatch=True))
def test_text_in_any_colour_can_be_read_on_both_backgrounds(accent: str) -> None:
    style = style_of(BrandSettings(accent=accent))
    light, dark = (part.split("--accent: ")[1][:7] for part in style.split("@media"))
    rounding = 0.05  # a colour is written in steps of 1/255
    assert contrast(_parsed(light), LIGHT) >= CONTRAST - rounding
    assert contrast(_parsed(dark), DARK) >= CONTRAST - rounding


def test_a_colour_that_can_be_read_stays_as_it_was_chosen() -> None:
    assert "--accent: #7c3aed" in style_of(BrandSettings(accent="#7c3aed"))
    assert style_of(BrandSettings()) == ""


def test_black_and_white_have_the_contrast_that_the_standard_says() -> None:
    assert contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21)
    assert contrast((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) == 1


def test_the_pages_have_the_operators_name_texts_and_logo(tmp_path: Path) -> None:
    logo = tmp_path / "logo.svg"
    logo.write_bytes(PIXEL)
    brand = BrandSettings(
        name="Ask <us>",
        logo=logo,
        about="Answers about our town.",
        policy="https://example.org/privacy",
        examples=("Where is the library?",),
    )
    client = client_of(brand, tmp_path)
    page = client.get("/").text
    assert "<title>Ask &lt;us&gt;</title>" in page
    assert '<meta name="description" content="Answers about our town.">' in page
    assert '<meta property="og:title" content="Ask &lt;us&gt;">' in page
    assert "Where is the library?" in page and "https://example.org/privacy" in page
    assert "<title>My votes · Ask &lt;us&gt;</title>" in client.get("/votes").text
    answer = client.get("/brand/logo")
    assert (answer.content, answer.headers["content-type"]) == (PIXEL, "image/svg+xml")


def test_without_a_logo_there_is_ours(tmp_path: Path) -> None:
    client = client_of(BrandSettings(), tmp_path)
    assert logo_of(BrandSettings()) is None
    assert client.get("/brand/logo").status_code == 404
    assert "/theme/icon.svg" in client.get("/").text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"accent": "teal"}, "accent"),
        ({"policy": "javascript:alert(1)"}, "policy"),
        ({"logo": "nowhere.png"}, "there is no file nowhere.png"),
        ({"logo": "logo.gif"}, "no image of a kind that we show"),
        ({"examples": ["x"] * 7}, "7 examples; give at most 6"),
        ({"name": ""}, "name"),
    ],
)
def test_what_cannot_be_shown_is_refused_at_the_start(given: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        BrandSettings.model_validate(given)


def test_examples_may_come_from_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEEDBACK_CHAT_BRAND__EXAMPLES", '["One, or two?", "Three"]')
    assert load_settings(data=tmp_path).brand.examples == ("One, or two?", "Three")
