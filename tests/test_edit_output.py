"""Where results of `edit` go: everything that would fail is told before minutes are spent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from byg_train.cli.edit_output import check_clip_output, check_picture_output, targets_of
from byg_train.config import ConfigError


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "r_1.mp4").mkdir()
    (tmp_path / "r_1.png").mkdir()
    return tmp_path / "in"


BOTH = {
    "in/new/o{}": "cannot be written: Not a directory",
    "{}": "wanted a name in front",
    "x" * 250 + "{}": "cannot be written: File name too long",
    # The name fits, that of the file while it is written does not.
    "x" * 240 + "{}": "cannot be written: File name too long",
    "new/" + "x" * 260 + "/o{}": "cannot be written: File name too long",
    "nul\0byte{}": "cannot be written: embedded null",
    "folder{}": "is a folder",
    "o.gif": "o.gif: wanted",
}


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("check", "ending"),
    [(check_picture_output, ".png"), (check_clip_output, ".mp4")],
    ids=["picture", "clip"],
)
def test_what_cannot_be_written_is_told(
    source: Path, check: object, ending: str, name: str
) -> None:
    before = sorted(Path().rglob("*"))
    more = {"transparent": False} if check is check_picture_output else {}
    with pytest.raises(ConfigError, match=BOTH[name]):
        check(source, targets_of(Path(name.format(ending)), 1), **more)
    assert sorted(Path().rglob("*")) == before, "nothing is left behind"


def test_one_of_several_results_may_be_in_the_way(source: Path) -> None:
    with pytest.raises(ConfigError, match="r_1.png is a folder"):
        check_picture_output(source, targets_of(Path("r.png"), 2), transparent=False)
    with pytest.raises(ConfigError, match="r_1.mp4 is a folder"):
        check_clip_output(source, targets_of(Path("r.mp4"), 2))
    (source.parent / "f_2").write_text("a file")
    with pytest.raises(ConfigError, match="f_2: wanted a new or an empty folder"):
        check_clip_output(source, targets_of(Path("f"), 2))
    with pytest.raises(ConfigError, match="wanted a new or an empty folder"):
        check_clip_output(source, targets_of(Path(os.devnull), 1))


@pytest.mark.parametrize("linked", [os.link, os.symlink])
def test_the_input_is_kept_by_any_name(source: Path, linked: object) -> None:
    linked(source, "other.mp4")
    linked(source, "other.png")
    with pytest.raises(ConfigError, match="would overwrite --input"):
        check_clip_output(source, targets_of(Path("other.mp4"), 1))
    with pytest.raises(ConfigError, match="would overwrite --input"):
        check_picture_output(source, targets_of(Path("other.png"), 1), transparent=False)


@pytest.mark.parametrize(
    "name", ["Edit: 12{}", "-o{}", " o {}", "100%d{}", "new/deep/o{}", "…🎬{}", ".hidden{}"]
)
def test_any_other_name_will_do(source: Path, name: str) -> None:
    before = sorted(Path().rglob("*"))
    check_picture_output(source, targets_of(Path(name.format(".PNG")), 3), transparent=True)
    check_clip_output(source, targets_of(Path(name.format(".mp4")), 3))
    check_clip_output(source, targets_of(Path(name.format("")), 3))
    assert sorted(Path().rglob("*")) == before, "nothing is left behind"


def test_a_full_disk_is_told_early(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the names of files, and no byte of them."""

    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ConfigError, match=r"o\.png cannot be written: No space left"):
        check_picture_output(source, targets_of(Path("new/o.png"), 1), transparent=False)
    assert not Path("new").exists()
