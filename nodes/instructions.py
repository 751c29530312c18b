"""ByG Instruction: what the LoRAs here were taught to do, to choose from."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

from ..byg_train.models.lora_file import LoraInfo
from .host.canvas import show_text
from .host.lora import taught
from .sockets import INFO, reporting, schema

NAME = "ByG Instruction"
NONE = "(no LoRA of byg_train in models/loras)"


def _known() -> list[str]:
    """The instructions of all LoRAs, each once."""
    return list(dict.fromkeys(text for info in taught() for text in info.instructions))


class Instruction(io.ComfyNode):
    """A list of instructions; STRING out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ByG_Instruction",
            "ByG/util",
            inputs=[
                io.Combo.Input("instruction", options=_known() or [NONE]),
                io.String.Input("own_words", multiline=True, default=""),
                INFO.Input("info", optional=True),
            ],
            outputs=[io.String.Output("text")],
            found_by=["prompt list", "instruction list", "what the lora knows", "wildcard"],
        )

    @classmethod
    def execute(
        cls, instruction: str, own_words: str = "", info: LoraInfo | None = None
    ) -> io.NodeOutput:
        with reporting(NAME):
            text = own_words.strip() or instruction
            if text == NONE:
                raise ValueError(
                    "instruction: no LoRA of byg_train was found; copy one into models/loras and "
                    "press R, or write into own_words"
                )
        said = f'"{text}"'
        if info is not None and text not in info.instructions and info.instructions:
            known = "\n".join(f"- {one}" for one in info.instructions[:3])
            said += f"\nis not among what this LoRA was taught, such as:\n{known}"
        show_text(said)
        return io.NodeOutput(text, ui=ui.PreviewText(said))


NODE = Instruction
