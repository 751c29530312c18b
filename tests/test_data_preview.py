"""The preview's page: it holds nothing back and trusts nothing."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import pytest
from cli_runs import byg
from PIL import Image
from preview_set import NASTY, data_of, make_set, report, save

from byg_train.config import DataConfig
from byg_train.data.check import Limits, check_loose, estimated
from byg_train.data.excluded import HEAD, write_excluded
from byg_train.data.media_kind import PICTURES
from byg_train.data.preview.page import PAGE, THUMB, page, pictures, thumbnail


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_set(tmp_path / "my set")


def test_every_picture_with_its_tuples_and_problems(root: Path) -> None:
    a, b, c = pictures(report(root))
    assert [p["file"] for p in (a, b, c)] == ["a.png", "sub/b.jpg", "c.png"]
    assert a["edits"][0]["texts"]["src_caption"] == NASTY and a["problems"] == []
    assert [edit["kind"] for edit in b["edits"]] == ["", "add"]
    (slip,) = b["edits"][0]["problems"]
    assert (slip["rule"], slip["field"], slip["level"]) == (
        "change in caption",
        "tgt_caption",
        "error",
    )
    # As JavaScript counts: each fox is two.
    text = b["edits"][0]["texts"]["tgt_caption"].encode("utf-16-le")
    at = 2 * slip["at"]
    assert text[at : at + 2 * slip["length"]].decode("utf-16-le") == "now"
    assert b["edits"][1]["problems"] == []
    assert [problem["rule"] for problem in c["problems"]] == ["unreadable"]


def test_a_static_page_needs_nothing_else(root: Path, tmp_path: Path) -> None:
    write_excluded(root, {("sub/b.jpg", "Add a hat")})
    out = tmp_path / "out.html"
    result = byg("data", "preview", root, "--static", out)
    assert result.exit_code == 0, result.output
    html = out.read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)|url\(|@import|https?://", html)
    data = data_of(html)
    assert data["served"] is False and data["head"] == HEAD and data["title"] == "my set"
    assert data["excluded"] == ["sub/b.jpg\tAdd a hat"]
    a, b, c = data["pictures"]
    assert a["edits"][0]["texts"]["src_caption"] == NASTY
    assert (b["width"], b["height"]) == (600, 900) and "thumb" not in c
    (note,) = data["notes"]
    assert note["where"] == "metadata.jsonl:5"
    with Image.open(BytesIO(base64.b64decode(b["thumb"].split(",")[1]))) as thumb:
        assert thumb.format == "WEBP" and thumb.size == (320, 480)
        assert min(thumb.convert("RGB").getpixel((9, 9))[:1]) > 240


def test_only_the_pages_own_script_runs(root: Path) -> None:
    html = page(report(root), set(), served=True, addresses=lambda i, name: {})
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1]
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 1  # no text of the set has become one
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert scripts[0] in PAGE.read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_script_parses(tmp_path: Path) -> None:
    script = re.search(r"<script>(.*?)</script>", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    (tmp_path / "page.js").write_text(script, encoding="utf-8")
    subprocess.run(["node", "--check", tmp_path / "page.js"], check=True)


def test_the_page_of_another_set_forgets_what_a_browser_kept(root: Path) -> None:
    def key(excluded: set) -> str:
        html = page(report(root), excluded, served=False, addresses=lambda i, name: {})
        return data_of(html)["key"]

    assert key(set()) == key(set()) != key({("a.png", None)})


def test_small_copies_keep_small_pictures_exact_and_turn_upright(tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    picture = Image.effect_noise((30, 20), 90).convert("RGB")
    picture.save(small)
    with Image.open(BytesIO(thumbnail(small, THUMB, PICTURES)[1])) as copy:
        assert copy.convert("RGB").tobytes() == picture.tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (900, 300), "red").save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(BytesIO(thumbnail(tmp_path / "turned.jpg", THUMB, PICTURES)[1])) as copy:
        assert copy.size == (160, 480)


def test_a_single_style_can_be_looked_at(tmp_path: Path) -> None:
    save(tmp_path / "photo" / "a.png", "red").with_suffix(".txt").write_text("a  ball\n")
    save(tmp_path / "photo" / "b.png", "blue")
    (tmp_path / "photo" / "c.png").write_text("no picture")
    assert byg("data", "preview", tmp_path, "--static", tmp_path / "o.html").exit_code == 0
    a, b, c = pictures(check_loose(tmp_path, Limits(estimated(256), 16, DataConfig())))
    assert a["edits"][0]["texts"] == {"src_caption": "a ball"} and b["edits"] == []
    assert c["problems"][0]["rule"] == "unreadable"
    result = byg("data", "preview", tmp_path / "photo" / "nothing")
    assert result.exit_code == 2 and "does not exist" in result.stderr
