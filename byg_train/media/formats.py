"""What a file holds (a picture, a picture that moves, a clip, or none of these), and opening it.

Its content decides, whatever its name: everything that Pillow or FFmpeg opens is used. The ending
only says what a file was meant to be that nothing opens, so that it is reported as broken.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from stat import S_ISREG
from typing import Literal, NamedTuple

from PIL import Image, ImageFile, UnidentifiedImageError

from . import MediaError, url

Sort = Literal["picture", "animation", "clip", "none"]
# Clips by their names; FFmpeg's own list holds too much that is none.
CLIP_ENDINGS = (
    ".mp4", ".webm", ".mov", ".mkv", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
    ".wmv", ".flv", ".ogv", ".3gp", ".3g2", ".mxf", ".vob", ".asf", ".m2v", ".m1v", ".mpv", ".qt",
    ".f4v", ".divx", ".dv", ".rm", ".rmvb", ".mjpeg", ".y4m", ".nut", ".ivf", ".m2p", ".tod",
)  # fmt: skip
# Many JPEGs in one file, of which Pillow would see the first.
MOVING_JPEGS = (".mjpeg", ".mjpg")
# Containers of FFmpeg that are texts, or name other files.
NO_CLIPS = ("tty", "bin", "concat", "hls", "dash", "sdp")
# What is never looked into: texts, tables, tensors, archives and documents beside the media.
OTHERS = {
    "a text": ".txt .caption .json .jsonl .csv .tsv .toml .yaml .yml .md .rst .log .xml .html .htm "
    ".css .js .py .sh .bat .ini .cfg .srt .vtt .ass .rtf .bak .xmp .url .lnk .m3u .m3u8 .pls .cue",
    "tensors or a table": ".safetensors .npz .npy .pt .pth .ckpt .bin .parquet .arrow .db .sqlite "
    ".h5 .hdf .hdf5 .grib .bufr",
    "an archive": ".zip .rar .7z .tar .gz .bz2 .xz .zst",
    "a document": ".pdf .doc .docx .odt .pages .ppt .pptx .key .xls .xlsx .ai",
    "a vector graphic, which has no pixels": ".svg .svgz .emf .wmf",
}
UNSEEN = {ending: what for what, endings in OTHERS.items() for ending in endings.split()}
# Bytes of a file's beginning that tell the most frequent formats.
HEAD = 16
# HEIC, which Pillow opens with a plugin: what its files say at byte 8, and how they are called.
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
HEIC = (".heic", ".heif", ".hif")
# Pictures as a camera's sensor saw them. Pillow would take some for the thumbnail inside.
RAW = (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
# Formats of Pillow whose several frames are moments in time, not pages, sizes or layers.
MOVING = ("GIF", "PNG", "WEBP", "AVIF", "FLI")


class Look(NamedTuple):
    """What a file holds."""

    sort: Sort
    why: str = ""  # it is none, as one would say of it: `a text`


class Formats(NamedTuple):
    """Files of some sorts, and what messages call them."""

    one: str
    sorts: Collection[Sort]
    words: str  # png, jpg or mp4
    ending: str  # of the files that examples show

    @property
    def many(self) -> str:
        """The plural of `one`."""
        return f"{self.one}s"

    def holds(self, path: Path) -> bool:
        """Whether a file is of these sorts, by its content; hidden ones never are."""
        return not path.name.startswith(".") and look(path).sort in self.sorts

    def may_name(self, path: Path) -> bool:
        """Whether a file that is not there may have been one of these, as far as its name tells."""
        meant = _meant(path)
        return meant is None or meant.sort in self.sorts


# A picture that moves is a picture (its first frame) among pictures, and a clip among clips.
PICTURES = Formats(
    "picture", ("picture", "animation"), "png, jpg, webp, avif, tif, gif or another picture", ".png"
)
CLIPS = Formats(
    "clip", ("clip", "animation"), "mp4, webm, mov, mkv, avi, gif or another video", ".mp4"
)
MEDIA = Formats(
    "picture or clip", ("picture", "animation", "clip"), f"{PICTURES.words}; {CLIPS.words}", ".png"
)


def look(path: Path) -> Look:
    """What a file holds; a look is kept as long as the file stays as it is."""
    if what := UNSEEN.get(path.suffix.lower()):
        return Look("none", what)
    try:
        stat = path.stat()
        if not S_ISREG(stat.st_mode):
            return Look("none", "a folder" if path.is_dir() else "no file")
        return _look(path, stat.st_mtime_ns, stat.st_size)
    except FileNotFoundError:
        return Look("none", "a link that leads nowhere" if path.is_symlink() else "not there")
    except OSError as error:
        return _meant(path) or Look("none", f"not readable ({error.strerror})")


@lru_cache(maxsize=200_000)
def _look(path: Path, changed: int, size: int) -> Look:
    head = _head(path)
    if not head:
        return _meant(path) or Look("none", "empty")
    if path.suffix.lower() in MOVING_JPEGS:
        return Look("clip")
    if head.startswith(b"\xff\xd8\xff") or path.suffix.lower() in RAW:
        return Look("picture")
    heic = Look("picture") if is_heic(head) else None
    return (
        _picture(path) or heic or _clip(path) or _meant(path) or Look("none", "no picture, no clip")
    )


def _picture(path: Path) -> Look | None:
    """What Pillow says."""
    try:
        with open_picture(path) as picture:
            # Of some formats Pillow knows the beginning, and decodes nothing.
            if picture.format == "MPEG" or isinstance(picture, ImageFile.StubImageFile):
                return None
            if not _sure(picture, path):
                picture.load()
            return Look("animation" if moves(picture) else "picture")
    except (MediaError, OSError, ValueError, SyntaxError):  # of `load`, on what is not theirs
        return None


def _sure(picture: Image.Image, path: Path) -> bool:
    """Whether the format shows by its first bytes, or by the ending; of others anything may be."""
    Image.init()
    _, accept = Image.OPEN[picture.format]
    return accept is not None or Image.EXTENSION.get(path.suffix.lower()) == picture.format


def _clip(path: Path) -> Look | None:
    """What FFmpeg says."""
    import av

    from .video import is_cover, is_decodable, is_still

    try:
        with av.open(url(path)) as container:
            if container.format.name in NO_CLIPS:
                return Look("none", "a text")
            videos = (s for s in container.streams.video if not is_cover(s))
            shown = [s for s in videos if not is_decodable(s) or s.width]
            if not shown:
                return Look("none", "sound alone") if container.streams.audio else None
            return Look("picture" if is_still(container) else "clip")
    except (av.FFmpegError, EOFError, ValueError):
        return None


def _meant(path: Path) -> Look | None:
    """What a file's ending says that it was to be."""
    ending = path.suffix.lower()
    if ending in (*CLIP_ENDINGS, ".gif"):
        return Look("clip")
    return Look("picture") if ending in _picture_endings() else None


@cache
def _picture_endings() -> frozenset[str]:
    Image.init()
    known = {ending for ending, name in Image.EXTENSION.items() if name in Image.OPEN}
    return frozenset(known.union(HEIC, RAW, (".jxl", ".exr", ".dpx")))


class UnknownPictureError(MediaError):
    """Raised for a file that Pillow does not know."""


def open_picture(file: Path | bytes) -> Image.Image:
    """Open a picture by its path or content, without decoding it; MediaError where nothing does."""
    try:
        if isinstance(file, Path) and file.suffix.lower() in RAW:
            raise MediaError("a camera's raw picture: develop it to a JPEG, PNG or TIFF first")
        try:
            return Image.open(BytesIO(file) if isinstance(file, bytes) else file)
        except UnidentifiedImageError:
            if not is_heic(_head(file)):
                raise
        if not _has_heic():
            raise MediaError("HEIC, for which Pillow needs a plugin: pip install pillow-heif")
        return Image.open(BytesIO(file) if isinstance(file, bytes) else file)
    except Exception as error:  # decoders raise whatever they like on broken bytes
        raise broken(error) from error


def moves(picture: Image.Image) -> bool:
    """Whether an open picture has several frames, one after the other."""
    return picture.format in MOVING and getattr(picture, "is_animated", False)


def is_heic(head: bytes) -> bool:
    """Whether a file begins as HEIC does; AVIF, which Pillow knows, may begin so too."""
    return head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS


def broken(error: Exception) -> MediaError:
    """What a decoder of pictures said, in one sentence."""
    if isinstance(error, MediaError):
        return error
    if isinstance(error, UnidentifiedImageError):
        return UnknownPictureError("not a picture")
    if isinstance(error, Image.DecompressionBombError):
        return MediaError(f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels")
    if isinstance(error, OSError) and error.strerror:
        return MediaError(error.strerror)
    return MediaError(str(error).removesuffix(".") or type(error).__name__)


def _head(file: Path | bytes) -> bytes:
    if isinstance(file, bytes):
        return file[:HEAD]
    with file.open("rb") as opened:
        return opened.read(HEAD)


@cache
def _has_heic() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True
