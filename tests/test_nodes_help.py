"""What artists read beside the nodes: help pages and translations follow the schemas."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from comfy_host import in_host

from byg_train.config import tomllib

ROOT = Path(__file__).parents[1]
LOCALES = ("en", "zh", "ja")
# vue-i18n, which shows the texts, takes these for its own syntax.
SYNTAX = "@{}|$"
LARGE = 250_000  # bytes


def _infos() -> dict[str, dict]:
    """What the host tells its frontend of each of our nodes."""
    import nodes

    ours = {n: kind for n, kind in nodes.NODE_CLASS_MAPPINGS.items() if n.startswith("ByG")}
    return json.loads(json.dumps({name: kind.GET_NODE_INFO_V1() for name, kind in ours.items()}))


def _inputs(info: dict) -> dict[str, dict]:
    """Options of every input by name."""
    both = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    return {name: options for name, (_, options) in both.items()}


def _texts(info: dict) -> dict:
    """The texts of a node in the shape of nodeDefs.json."""
    inputs = {name: _said(name, options.get("tooltip")) for name, options in _inputs(info).items()}
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": inputs,
        "outputs": {str(i): _said(name, tooltip) for i, (name, tooltip) in enumerate(outputs)},
    }


def _said(name: str, tooltip: str | None) -> dict[str, str]:
    return {"name": name, "tooltip": tooltip} if tooltip else {"name": name}


def _flat(texts: dict, path: str = "") -> dict[str, str]:
    flat = {}
    for key, value in texts.items():
        here = f"{path}.{key}".lstrip(".")
        flat.update(_flat(value, here) if isinstance(value, dict) else {here: value})
    return flat


def _code() -> dict[str, str]:
    return _flat({name: _texts(info) for name, info in in_host(_infos).items()})


def _locale(language: str) -> dict[str, str]:
    file = ROOT / "locales" / language / "nodeDefs.json"
    return _flat(json.loads(file.read_text(encoding="utf-8")))


@pytest.mark.host
def test_every_node_has_a_page_that_names_all_its_inputs_and_outputs() -> None:
    infos = in_host(_infos)
    pages = ROOT / "web" / "docs"
    assert {page.stem for page in pages.glob("*.md")} == infos.keys()
    for name, info in infos.items():
        page = (pages / f"{name}.md").read_text(encoding="utf-8")
        named = set(re.findall(r"`([^`]+)`", page))
        wanted = {*_inputs(info), *info["output_name"]}
        assert wanted <= named, f"{name}.md says nothing of {sorted(wanted - named)}"


# Of every page the heading of the five mistakes that are most likely.
MISTAKES = {"en": "Five likely mistakes", "zh": "五个最常见的错误", "ja": "よくある五つの間違い"}


@pytest.mark.host
@pytest.mark.parametrize("language", ["zh", "ja"])
@pytest.mark.parametrize("name", ["ByG_Loader", "ByG_ImageEdit", "ByG_VideoEdit"])
def test_the_pages_that_matter_most_are_translated(name: str, language: str) -> None:
    page = (ROOT / "web" / "docs" / name / f"{language}.md").read_text(encoding="utf-8")
    info = in_host(_infos)[name]
    wanted = {*_inputs(info), *info["output_name"]}
    assert wanted <= set(re.findall(r"`([^`]+)`", page))


def test_pages_name_the_five_most_likely_mistakes() -> None:
    for page in (ROOT / "web" / "docs").rglob("*.md"):
        heading = MISTAKES.get(page.stem, MISTAKES["en"])
        text = page.read_text(encoding="utf-8")
        (found,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
        assert re.findall(r"^(\d)\. ", found, re.M) == list("12345"), page


def test_pages_show_their_node() -> None:
    docs = ROOT / "web" / "docs"
    for page in docs.rglob("*.md"):
        links = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
        assert links, f"{page.name} has no picture"
        for words, link in links:
            picture = docs / link  # as the frontend resolves it, for pages in folders too
            assert len(words) > (20 if page.parent == docs else 10) and picture.is_file(), (
                f"{page.name}: {link}"
            )
            assert picture.stat().st_size < LARGE, picture


def test_pictures_of_the_workflows_are_small() -> None:
    shown = {path.stem for path in (ROOT / "docs" / "images").glob("*.png")}
    assert {path.stem for path in (ROOT / "workflows").glob("*.json")} <= shown
    for path in (*(ROOT / "docs" / "images").iterdir(), *(ROOT / "workflows").glob("*.jpg")):
        assert path.stat().st_size < LARGE, path


def test_the_icon_is_square_and_as_large_as_the_registry_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["comfy"]["Icon"].endswith("/web/icon.svg")
    icon = (ROOT / "web" / "icon.svg").read_text(encoding="utf-8")
    width, height = re.search(r'<svg [^>]*width="(\d+)" height="(\d+)"', icon).groups()
    assert width == height and int(width) <= 400


@pytest.mark.host
@pytest.mark.parametrize("language", LOCALES)
def test_locales_have_every_text_and_no_other(language: str) -> None:
    code, texts = _code(), _locale(language)
    assert not code.keys() - texts.keys(), "missing"
    assert not texts.keys() - code.keys(), "of nothing in the code"
    for key, text in texts.items():
        assert text.strip() and not set(text) & set(SYNTAX), key


@pytest.mark.host
def test_english_is_the_text_of_the_code() -> None:
    assert _locale("en") == _code()


@pytest.mark.host
@pytest.mark.parametrize("language", [other for other in LOCALES if other != "en"])
def test_translations_are_translated(language: str) -> None:
    code, texts = _code(), _locale(language)
    same = [key for key, text in texts.items() if key.endswith("tooltip") and text == code[key]]
    assert not same
