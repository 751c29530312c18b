"""The study's page in a real browser: hands, phones, and what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import browsers
import pytest
from browsers import quiet
from study_folders import answered, begin, make_folders, picture, ready, served

from byg_train.study.server import StudyServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
browser = browsers.browser
page = browsers.page


@pytest.fixture
def study(tmp_path: Path) -> Iterator[StudyServer]:
    make_folders(tmp_path, pictures=3)
    with served(tmp_path) as server:
        yield server


def colour_of(page: Page, slot: str) -> str:
    """Which method's picture is in a slot, by what the browser painted."""
    from io import BytesIO

    from PIL import Image

    shot = page.locator(f".frame[data-slot={slot}] > *").screenshot()
    painted = Image.open(BytesIO(shot)).convert("RGB")
    r, _, b = painted.getpixel((painted.width // 2, painted.height // 2))
    return "sources" if abs(r - b) < 20 else "first" if r > b else "second"


# ---------------------------------------------------------------- hands


def test_a_rater_votes_with_the_keyboard(page: Page, study: StudyServer) -> None:
    begin(page, study)
    wanted = []
    for done, key in enumerate(("ArrowLeft", "b", "A")):
        answered(page, done)
        ready(page)
        assert colour_of(page, "source") == "sources"
        side = "right" if key == "b" else "left"
        wanted.append({"first": "a", "second": "b"}[colour_of(page, side)])
        page.keyboard.press(key)
    page.wait_for_selector("#thanks:visible")
    votes = study.ballot.votes.all()
    assert [vote.won for vote in votes] == wanted
    assert {vote.rater for vote in votes} == {"ann"}
    assert all(0 < vote.seconds < 60 for vote in votes)


def test_back_and_another_choice(page: Page, study: StudyServer) -> None:
    begin(page, study)
    assert page.is_disabled("#back")
    page.keyboard.press("ArrowLeft")
    answered(page, 1)
    ready(page)
    page.keyboard.press("Backspace")
    page.wait_for_selector(".choice.chosen[data-side=left]:enabled")
    page.click(".choice[data-side=right]")
    page.wait_for_selector(".choice:enabled:not(.chosen)")
    page.wait_for_function("() => !document.querySelector('.chosen')")
    votes = study.ballot.votes.all()
    assert len(votes) == 1
    assert votes[0].won != votes[0].on_left


def test_the_end_can_be_taken_back(page: Page, study: StudyServer) -> None:
    begin(page, study)
    for done in range(3):
        answered(page, done)
        ready(page)
        page.click(".choice[data-side=left]")
    page.click("#review")
    page.wait_for_selector(".choice.chosen:enabled")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#thanks:visible")
    assert [v.won == v.on_left for v in study.ballot.votes.all()] == [True, True, False]


def test_a_reload_goes_on(page: Page, study: StudyServer) -> None:
    begin(page, study)
    page.keyboard.press("ArrowLeft")
    answered(page, 1)
    page.reload()
    assert page.input_value("#name") == "Ann"
    page.click("text=Begin")
    ready(page)
    answered(page, 1)


def test_instructions_are_words(page: Page, study: StudyServer) -> None:
    begin(page, study)
    assert "<b>nicer</b>" in page.inner_text("#instruction")
    assert page.locator("#instruction b").count() == 0


def right_side_held(page: Page, study: StudyServer) -> list[Route]:
    """Begin, with the right sides on their way until their routes are continued."""
    held: list[Route] = []
    page.route("**/media/*/right*", lambda route: held.append(route))
    page.goto(study.address)
    page.fill("#name", "Ann")
    page.keyboard.press("Enter")
    return held


def test_nobody_votes_on_what_is_not_there_yet(page: Page, study: StudyServer) -> None:
    held = right_side_held(page, study)
    page.wait_for_function("() => document.querySelector('[data-slot=left] img')?.complete")
    page.wait_for_function("() => document.querySelector('[data-slot=right] img')")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".choice:enabled").count() == 0
    held[0].continue_()
    ready(page)
    page.unroute("**/media/*/right*")
    assert study.ballot.votes.all() == []
    page.keyboard.press("ArrowLeft")
    answered(page, 1)


def test_one_key_is_one_vote(page: Page, study: StudyServer) -> None:
    """Also where it is held down, or comes twice before the answer."""
    begin(page, study)
    held: list[Route] = []
    page.route("**/api/vote*", lambda route: held.append(route))
    page.keyboard.press("ArrowLeft")
    page.keyboard.down("ArrowLeft")
    page.keyboard.down("ArrowLeft")
    page.keyboard.up("ArrowLeft")
    page.wait_for_timeout(100)
    assert len(held) == 1
    held[0].continue_()
    answered(page, 1)


def test_enlarging_flips_through_in_place(page: Page, study: StudyServer) -> None:
    begin(page, study)

    def large() -> list[str]:
        return page.locator("figure.large figcaption").all_inner_texts()

    for key, caption in (("1", "Before"), ("2", "A"), ("3", "B")):
        page.keyboard.press(key)
        assert large() == [caption]
        box = page.locator("figure.large").bounding_box()
        assert (box["width"], box["height"]) == (1200, 800)
    page.keyboard.press("3")
    assert large() == []
    page.click(".frame[data-slot=left]")
    assert large() == ["A"]
    page.keyboard.press("Escape")
    assert large() == []
    assert study.ballot.votes.all() == []


def test_tiny_pictures_stay_crisp(page: Page, study: StudyServer) -> None:
    begin(page, study)
    image = page.locator(".frame[data-slot=left] > img")
    assert image.evaluate("e => getComputedStyle(e).imageRendering") == "pixelated"


# ---------------------------------------------------------------- phones


@pytest.mark.parametrize("size", [(48, 32), (32, 48)], ids=["wide", "tall"])
@pytest.mark.parametrize("upright", [True, False], ids=["upright", "lying"])
def test_a_phone_shows_everything_at_once(
    browser: Browser, tmp_path: Path, size: tuple[int, int], upright: bool
) -> None:
    make_folders(tmp_path, pictures=2)
    for path in tmp_path.rglob("*.png"):
        picture(path, (200, 40, 40), size)
    width, height = (390, 844) if upright else (844, 390)
    context = browser.new_context(**{**PHONE, "viewport": {"width": width, "height": height}})
    for phone in quiet(context.new_page()):
        with served(tmp_path) as server:
            phone.goto(server.address)
            phone.fill("#name", "Ann")
            phone.tap("text=Begin")
            ready(phone)
            for selector in ("#instruction", *(f".frame >> nth={i}" for i in range(3)),
                             ".choice >> nth=0", ".choice >> nth=1"):  # fmt: skip
                box = phone.locator(selector).bounding_box()
                assert 0 <= box["x"] <= box["x"] + box["width"] <= width, selector
                assert 0 <= box["y"] <= box["y"] + box["height"] <= height, selector
                if "frame" in selector:
                    shown = min(box["width"] / size[0], box["height"] / size[1])
                    assert shown * size[0] * shown * size[1] > 20_000, selector  # square pixels
                if "choice" in selector:
                    assert box["height"] >= 44  # a thumb
            assert phone.evaluate("document.documentElement.scrollWidth") == width
            assert phone.evaluate("document.documentElement.scrollHeight") == height
            phone.tap(".frame >> nth=2")
            assert phone.locator("figure.large").count() == 1
            phone.tap(".frame >> nth=2")
            assert phone.locator("figure.large").count() == 0
            phone.tap(".choice >> nth=1")
            answered(phone, 1)
            assert len(server.ballot.votes.all()) == 1
    context.close()


# ---------------------------------------------------------------- what goes wrong


def test_a_broken_picture_is_told_and_cannot_win(
    page: Page, tmp_path: Path, study: StudyServer
) -> None:
    for path in (tmp_path / "second").rglob("*.png"):
        path.write_bytes(b"no picture")
    page.goto(study.address)
    page.fill("#name", "Ann")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=This browser cannot show it.")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".choice:enabled").count() == 0
    assert study.ballot.votes.all() == []


def test_what_a_browser_cannot_show_is_skipped(
    page: Page, tmp_path: Path, study: StudyServer
) -> None:
    (tmp_path / "second/pictures/1.png").write_bytes(b"no picture")
    page.goto(study.address)
    page.fill("#name", "Ann")
    page.keyboard.press("Enter")
    votes = 0
    for _ in range(3):
        page.wait_for_selector(".choice:enabled, #skip:visible")
        if page.is_visible("#skip"):
            assert page.locator(".choice:enabled").count() == 0
            page.keyboard.press("s")
            page.wait_for_selector("#skip", state="hidden")
        else:
            votes += 1
            page.keyboard.press("ArrowLeft")
            page.wait_for_function(  # not only sent: what comes next is there
                "n => !document.querySelector('#thanks').hidden"
                " || document.querySelector('#progress').value === n",
                arg=votes,
            )
    page.wait_for_selector("#thanks:visible")
    assert "still open" in page.inner_text("#thanks")
    assert {vote.item for vote in study.ballot.votes.all()} == {"pictures/0", "pictures/2"}


def test_nobody_waits_for_ever(page: Page, study: StudyServer) -> None:
    """Also where a browser tells of no error; and what comes late after all can be voted on."""
    page.clock.install()
    held = right_side_held(page, study)
    page.wait_for_function("() => document.querySelector('[data-slot=right] img')")
    page.clock.fast_forward(3_000)
    assert page.is_hidden("#skip")
    page.clock.fast_forward(18_000)
    page.wait_for_selector("#skip:visible")
    held[0].continue_()
    ready(page)
    assert page.is_hidden("#skip")


def test_a_server_that_stopped_is_told_and_may_come_back(
    page: Page, tmp_path: Path, study: StudyServer
) -> None:
    begin(page, study)
    page.route("**/api/vote*", lambda route: route.abort())
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#problem:visible")
    assert "does not answer" in page.inner_text("#problem")
    page.unroute("**/api/vote*")
    page.keyboard.press("ArrowLeft")
    answered(page, 1)
    assert page.is_hidden("#problem")
    page.complaints.clear()  # the browser's own word on the request that failed


def test_a_name_that_is_none(page: Page, study: StudyServer) -> None:
    page.goto(study.address)
    page.fill("#name", "   ")
    page.keyboard.press("Enter")
    page.wait_for_selector("#problem:visible")
    assert "wanted a name" in page.inner_text("#problem")
    page.complaints.clear()
