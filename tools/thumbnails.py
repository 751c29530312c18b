"""Draw the pictures of the template browser, `workflows/*.jpg`: what each workflow makes.

python -m tools.thumbnails [--server http://127.0.0.1:8188]

The workflows run on a ComfyUI with ByG, with the tiny world's models in place of the official ones.
Pictures of 48 pixels are enlarged without smoothing.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from io import BytesIO
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from PIL import Image, ImageChops, ImageDraw, ImageOps

from byg_train.world import clips, scenes
from byg_train.world.clips import Clip
from byg_train.world.scenes import Scene

from .canvas import Info
from .kits import FLUX_KIT, TINY_CLIP_KIT, TINY_KIT, WAN_KIT
from .prompts import (
    ROOT,
    TINY,
    Prompt,
    of_class,
    on_tiny_world,
    shipped,
    tiny_world,
    with_inputs,
    without,
)

SIZE = (512, 384)
DARK = (32, 28, 44)
LINE = (255, 255, 255)
LORA = TINY_KIT.lora
RENDER = "turn the ink drawing into a 3d render with a {} subject"
RENDER_CLIP = "turn the video into a 3d render with a {} subject"
SOURCE = "byg_thumbnail.png"
# Subjects that come out well, and the colour they get.
OWL, BUTTERFLY, PENGUIN = ("owl", "orange"), ("butterfly", "purple"), ("penguin", "orange")
FOLDER = (("strawberry", "red"), ("pear", "yellow"), BUTTERFLY, ("balloon", "green"))
WAY = ("red", "blue")  # grounds, there and back
LEVELS = "0.95, 0.85, 0.7, 0.4"


class Comfy:
    """A running ComfyUI."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.infos: dict[str, Info] = self._get("/object_info")

    def pictures(self, prompt: Prompt) -> dict[str, list[Image.Image]]:
        """Run a prompt: node -> the pictures that it shows; RuntimeError if it failed."""
        body = json.dumps({"prompt": prompt}).encode()
        header = {"Content-Type": "application/json"}
        with urlopen(Request(f"{self.address}/prompt", body, header)) as answer:
            number = json.load(answer)["prompt_id"]
        while number not in (history := self._get(f"/history/{number}")):
            time.sleep(0.2)
        if history[number]["status"]["status_str"] != "success":
            raise RuntimeError(history[number]["status"]["messages"][-1])
        shown = history[number]["outputs"].items()
        return {
            node: [self._picture(file) for file in output["images"]]
            for node, output in shown
            if "images" in output
        }

    def upload(self, picture: Image.Image, name: str) -> None:
        """Into its input folder."""
        data, line = BytesIO(), "byg-thumbnails"
        picture.save(data, "PNG")
        field = f"--{line}\r\nContent-Disposition: form-data; name="
        form = f'{field}"overwrite"\r\n\r\ntrue\r\n{field}"image"; filename="{name}"\r\n'
        head = f"{form}Content-Type: image/png\r\n\r\n".encode()
        body = head + data.getvalue() + f"\r\n--{line}--\r\n".encode()
        header = {"Content-Type": f"multipart/form-data; boundary={line}"}
        urlopen(Request(f"{self.address}/upload/image", body, header)).close()

    def _get(self, path: str) -> dict:
        with urlopen(f"{self.address}{path}") as answer:
            return json.load(answer)

    def _picture(self, file: dict[str, str]) -> Image.Image:
        with urlopen(f"{self.address}/view?{urlencode(file)}") as answer:
            return Image.open(BytesIO(answer.read())).convert("RGB")


# ---------------------------------------------------------------- drawing


def _large(picture: Image.Image, side: int) -> Image.Image:
    return picture.resize((side, side), Image.Resampling.NEAREST)


def _sheet(rows: list[list[Image.Image]], gap: int = 16) -> Image.Image:
    """Pictures in rows on a dark ground, as large as they can be."""
    columns = len(rows[0])
    side = min((SIZE[0] - gap) // columns, (SIZE[1] - gap) // len(rows)) - gap
    left = (SIZE[0] - columns * (side + gap) + gap) // 2
    top = (SIZE[1] - len(rows) * (side + gap) + gap) // 2
    sheet = Image.new("RGB", SIZE, DARK)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(_large(picture, side), (left + x * (side + gap), top + y * (side + gap)))
    return sheet


def _halves(before: Image.Image, after: Image.Image) -> Image.Image:
    """One picture, its right half edited, on a ground of its own colour."""
    both, side = _large(before, SIZE[1]), SIZE[1]
    both.paste(_large(after, side).crop((side // 2, 0, side, side)), (side // 2, 0))
    sheet = Image.new("RGB", SIZE, before.getpixel((0, 0)))
    sheet.paste(both, ((SIZE[0] - side) // 2, 0))
    ImageDraw.Draw(sheet).line([(SIZE[0] // 2, 24), (SIZE[0] // 2, SIZE[1] - 24)], LINE, 5)
    return sheet


def _whole(picture: Image.Image) -> Image.Image:
    """A picture of any shape on a ground of its own colour."""
    sheet = Image.new("RGB", SIZE, picture.getpixel((0, 0)))
    picture = ImageOps.contain(picture, SIZE)
    sheet.paste(picture, ((SIZE[0] - picture.width) // 2, (SIZE[1] - picture.height) // 2))
    return sheet


def _ink(subject: str) -> Image.Image:
    return Image.fromarray(scenes.draw(Scene(subject, "ink", "blue", "plain")))


# ---------------------------------------------------------------- the workflows


def _unsaved(prompt: Prompt) -> tuple[Prompt, list[str]]:
    """Previews in place of files in the artist's output folder, and which nodes these are."""
    found, saves = dict(prompt), of_class(prompt, "SaveImage")
    for name in saves:
        images = {"images": prompt[name]["inputs"]["images"]}
        found[name] = {"class_type": "PreviewImage", "inputs": images}
    return found, saves


def _rendered(
    comfy: Comfy, subject: str, colour: str, name: str = "byg_1_tiny_image_edit"
) -> Image.Image:
    """An ink drawing as a render."""
    prompt = shipped(name, comfy.infos)
    prompt = with_inputs(prompt, "ByG_TinyWorld", subject=subject)
    prompt = with_inputs(prompt, "CLIPTextEncode", text=RENDER.format(colour))
    prompt, (saved,) = _unsaved(prompt)
    return comfy.pictures(prompt)[saved][0]


def _on_flux(comfy: Comfy, name: str, texts: dict[str, str], source: Image.Image) -> Prompt:
    comfy.upload(source, SOURCE)
    prompt = on_tiny_world(shipped(name, comfy.infos), LORA, texts, tiny_world("picture"))
    return with_inputs(prompt, "LoadImage", image=SOURCE)


def _masked(comfy: Comfy, subject: str, colour: str) -> list[Image.Image]:
    """A source, its mask and the edit inside; the mask is what is transparent."""
    source, side = _ink(subject), scenes.SIZE
    mask = Image.new("L", source.size)
    mask.paste(255, (0, 0, side, side * 6 // 10))
    painted = source.copy()
    painted.putalpha(ImageChops.invert(mask))
    texts = {FLUX_KIT.instruction: RENDER.format(colour)}
    prompt, (saved,) = _unsaved(_on_flux(comfy, "byg_flux_mask_edit", texts, painted))
    return [source, mask.convert("RGB"), comfy.pictures(prompt)[saved][0]]


def _there_and_back(comfy: Comfy, subject: str) -> list[Image.Image]:
    """A source, its edit, and that edited back."""
    source, (there, back) = _ink(subject), (f"change the background to a {c} ground" for c in WAY)
    texts = {FLUX_KIT.instruction: there, FLUX_KIT.reverse: back}
    prompt = _on_flux(comfy, "byg_flux_cycle_check", texts, source)
    last = of_class(prompt, "ByG_Finish")[-1]
    prompt["again"] = {"class_type": "PreviewImage", "inputs": {"images": [last, 0]}}
    prompt, (saved,) = _unsaved(prompt)
    shown = comfy.pictures(prompt)
    return [source, shown[saved][0], shown["again"][0]]


def _looked_at(comfy: Comfy, subject: str, colour: str) -> Image.Image:
    """The grid of ByG Debug."""
    prompt = shipped("byg_3_tiny_debug", comfy.infos)
    prompt = with_inputs(prompt, "ByG_TinyWorld", subject=subject)
    scene = Scene(subject, "ink", "blue", "plain")
    wanted = replace(scene, style="3d", tint=colour)
    texts = (RENDER.format(colour), scenes.caption(scene), scenes.caption(wanted))
    for node, text in zip(of_class(prompt, "CLIPTextEncode"), texts, strict=True):
        prompt[node]["inputs"]["text"] = text
    prompt = with_inputs(prompt, "ByG_Debug", at=LEVELS, cell_size=192)
    (grid,) = of_class(prompt, "PreviewImage")
    return _whole(comfy.pictures(_unsaved(prompt)[0])[grid][0])


def _film(
    comfy: Comfy, subject: str, colour: str, name: str = "byg_2_tiny_video_edit"
) -> list[list[Image.Image]]:
    """Four frames of a clip, and of its edit."""
    prompt = shipped(name, comfy.infos)
    prompt = with_inputs(prompt, "ByG_TinyWorld", subject=subject)
    words, _ = of_class(prompt, "CLIPTextEncode")
    prompt[words]["inputs"]["text"] = RENDER_CLIP.format(colour)
    rows, (edited, source) = [], of_class(prompt, "ByG_Finish")
    for node in (source, edited):
        inputs = {"images": [node, 0]}
        prompt[f"frames of {node}"] = {"class_type": "PreviewImage", "inputs": inputs}
    shown = comfy.pictures(without(prompt, "SaveVideo"))
    for node in (source, edited):
        frames = shown[f"frames of {node}"]
        rows.append([frames[i * (len(frames) - 1) // 3] for i in range(4)])
    return rows


def _looked_at_clip(comfy: Comfy, subject: str, colour: str) -> Image.Image:
    """The grid of ByG Debug for a clip."""
    source = Clip(subject, "ink", "blue", "right")
    wanted = replace(source, style="3d", tint=colour)
    words = (RENDER_CLIP.format(colour), *map(clips.caption, (source, wanted)))
    texts = dict(zip((WAN_KIT.instruction, *WAN_KIT.captions), words, strict=True))
    texts[WAN_KIT.negative] = TINY_CLIP_KIT.negative
    prompt = shipped("byg_wan22_debug", comfy.infos)
    prompt = on_tiny_world(prompt, TINY_CLIP_KIT.lora, texts, tiny_world("clip"))
    prompt = with_inputs(prompt, "ByG_TinyWorld", subject=subject)
    (edit,) = of_class(prompt, "ByG_VideoEdit")
    del prompt[edit]["inputs"]["video"]
    prompt[edit]["inputs"]["frames"] = [TINY, 3]
    prompt = with_inputs(prompt, "ByG_ExpertSplit", steps=TINY_CLIP_KIT.steps)
    prompt = with_inputs(prompt, "CFGGuider", cfg=TINY_CLIP_KIT.cfg[0])
    prompt = with_inputs(prompt, "ByG_Debug", at=LEVELS, cell_size=192)
    (grid,) = of_class(prompt, "PreviewImage")
    return _whole(comfy.pictures(without(prompt, "LoadVideo", "SaveVideo"))[grid][0])


def draw(comfy: Comfy) -> dict[str, Image.Image]:
    """Workflow -> its picture."""
    folder = [(_ink(subject), _rendered(comfy, subject, colour)) for subject, colour in FOLDER]
    return {
        "byg_flux_image_edit": _halves(_ink(OWL[0]), _rendered(comfy, *OWL)),
        "byg_flux_few_steps": _halves(_ink(PENGUIN[0]), _rendered(comfy, *PENGUIN)),
        "byg_flux_mask_edit": _sheet([_masked(comfy, *OWL)]),
        "byg_flux_folder_style": _sheet([list(row) for row in zip(*folder, strict=True)]),
        "byg_flux_cycle_check": _sheet([_there_and_back(comfy, OWL[0])]),
        "byg_flux_debug": _looked_at(comfy, *OWL),
        # The tiny world's pictures stand for Z-Image's as they do for FLUX.1's.
        "byg_z_image_edit": _halves(_ink("fox"), _rendered(comfy, "fox", "orange")),
        "byg_z_image_mask_edit": _sheet([_masked(comfy, "fox", "orange")]),
        "byg_z_image_folder_style": _sheet([list(row) for row in zip(*folder[::-1], strict=True)]),
        "byg_z_image_debug": _looked_at(comfy, "fox", "orange"),
        "byg_z_image_turbo_edit": _halves(*folder[0]),
        "byg_1_tiny_image_edit": _halves(*folder[2]),
        "byg_3_tiny_debug": _looked_at(comfy, *PENGUIN),
        "byg_4_tiny_few_steps": _halves(
            _ink(FOLDER[1][0]), _rendered(comfy, *FOLDER[1], "byg_4_tiny_few_steps")
        ),
        "byg_2_tiny_video_edit": _sheet(_film(comfy, "rabbit", "orange")),
        "byg_5_tiny_video_few_steps": _sheet(
            _film(comfy, "fox", "orange", "byg_5_tiny_video_few_steps")
        ),
        "byg_wan22_video_edit": _sheet(_film(comfy, "fox", "red")),
        "byg_wan22_few_steps": _sheet(_film(comfy, "rabbit", "purple")),
        "byg_wan22_long_video": _sheet(_film(comfy, "penguin", "blue")),
        # The tiny world has a pair alone.
        "byg_wan22_5b_video_edit": _sheet(_film(comfy, "penguin", "purple")),
        "byg_wan22_debug": _looked_at_clip(comfy, "rabbit", "orange"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="http://127.0.0.1:8188")
    for name, picture in draw(Comfy(parser.parse_args().server)).items():
        picture.save(ROOT / "workflows" / f"{name}.jpg", quality=90)
        print(name)


if __name__ == "__main__":
    main()
