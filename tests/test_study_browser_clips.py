"""Clips on the study's page in a real browser: in step, stopped, and of different lengths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import browsers
import pytest
from study_folders import answered, begin, make_folders, ready, served, video

from byg_train.study.server import StudyServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

SPREAD = """() => {
  const times = [...document.querySelectorAll("video")].map((v) => v.currentTime);
  return Math.max(...times) - Math.min(...times);
}"""

browser = browsers.browser
page = browsers.page


@pytest.fixture
def clips(tmp_path: Path) -> Iterator[StudyServer]:
    make_folders(tmp_path, pictures=0, videos=2)
    with served(tmp_path) as server:
        yield server


def test_clips_play_in_step_and_begin_anew_together(page: Page, clips: StudyServer) -> None:
    begin(page, clips)
    assert page.locator("video").count() == 3
    # Every clip ends and begins anew, twice; when one begins, all stand near their beginning.
    page.evaluate("""() => {
      window.starts = [];
      const all = [...document.querySelectorAll("video")];
      for (const v of all) v.addEventListener("play", () =>
        window.starts.push(all.map((one) => one.currentTime)));
    }""")
    page.wait_for_function("() => window.starts.length >= 6")
    assert all(max(times) < 0.5 for times in page.evaluate("window.starts"))


def test_a_clip_that_falls_behind_catches_up(page: Page, clips: StudyServer) -> None:
    """All stand still, so nothing but the page brings them together."""
    begin(page, clips)
    page.keyboard.press(" ")
    page.wait_for_function("() => [...document.querySelectorAll('video')].every((v) => v.paused)")
    page.evaluate("""() => document.querySelectorAll("video").forEach((v, i) => {
      v.currentTime = [0.2, 0.9, 0.2][i];
    })""")
    page.wait_for_function(f"() => ({SPREAD})() < 0.1")


def test_the_shorter_clip_waits_at_its_end(page: Page, tmp_path: Path, clips: StudyServer) -> None:
    for path in (tmp_path / "first").rglob("*.webm"):
        video(path, (220, 40, 40), frames=4)
    begin(page, clips)
    page.wait_for_function("""() => {
      const ended = [...document.querySelectorAll("video")].map((v) => v.ended);
      return ended.filter(Boolean).length === 1;
    }""")
    page.wait_for_function("""() =>
      [...document.querySelectorAll("video")].every((v) => !v.ended && v.currentTime < 0.3)""")


def test_space_stops_clips_and_goes_on(page: Page, clips: StudyServer) -> None:
    begin(page, clips)
    stopped = "() => [...document.querySelectorAll('video')].every((v) => v.paused)"
    playing = "() => [...document.querySelectorAll('video')].some((v) => !v.paused)"
    page.wait_for_function(playing)
    page.keyboard.press(" ")
    page.wait_for_function(stopped)
    page.keyboard.press(" ")
    page.wait_for_function(playing)
    assert clips.ballot.votes.all() == []


def test_space_after_a_click_does_not_vote_again(page: Page, clips: StudyServer) -> None:
    begin(page, clips)
    page.click(".choice[data-side=left]")
    answered(page, 1)
    ready(page)
    page.keyboard.press(" ")
    page.wait_for_function("() => [...document.querySelectorAll('video')].every((v) => v.paused)")
    assert len(clips.ballot.votes.all()) == 1
