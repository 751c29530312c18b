"""Pairs of models that do not come from ByG Loader as they should (see graphs.py)."""

from __future__ import annotations

from pathlib import Path

from comfy_host import call
from graphs_silent import pair, sampled
from graphs_wan import video_edit, wan, wan_vae
from torch import Tensor


def _stock_loader(lora: str, models: tuple) -> tuple:
    load = "LoraLoaderModelOnly"
    return tuple(call(load, model=wan(i), lora_name=lora)[0] for i in (0, 1))


def _stock_low_loader(lora: str, models: tuple) -> tuple:
    return models[0], call("LoraLoaderModelOnly", model=wan(1), lora_name=lora)[0]


def _merged(lora: str, models: tuple) -> tuple:
    merge = {"model1": wan(0), "model2": models[0], "ratio": 0.0}
    return call("ModelMergeSimple", **merge)[0], models[1]


def _added(lora: str, models: tuple) -> tuple:
    return call("ModelMergeAdd", model1=wan(0), model2=models[0])[0], models[1]


def _merged_by_blocks(lora: str, models: tuple) -> tuple:
    given = {"model1": wan(1), "model2": models[1], "input": 0.0, "middle": 0.0, "out": 0.0}
    return models[0], call("ModelMergeBlocks", **given)[0]


def _low_past_the_loader(lora: str, models: tuple) -> tuple:
    return models[0], wan(1)


def _high_past_the_loader(lora: str, models: tuple) -> tuple:
    return wan(0), models[1]


def _saved(lora: str, models: tuple, save: str = "ModelSave", **parts: object) -> tuple:
    """What Save Model writes, loaded again: the LoRA inside of the weights."""
    import comfy.utils
    import folder_paths

    reloaded, folder = [], Path(folder_paths.get_output_directory()) / "saved"
    for i, model in enumerate(models):
        call(save, model=model, filename_prefix=f"saved/{i}", **parts)
        (file,) = folder.glob(f"{i}_*.safetensors")
        prefix = "model.diffusion_model."
        weights = {
            k.removeprefix(prefix): v
            for k, v in comfy.utils.load_torch_file(str(file)).items()
            if k.startswith(prefix)
        }
        copy = wan(2 + i).clone()
        copy.model.diffusion_model.load_state_dict(weights)
        reloaded.append(copy)
        file.unlink()
    return tuple(reloaded)


def _saved_as_checkpoint(lora: str, models: tuple) -> tuple:
    """The same by Save Checkpoint, whose files hold text encoder and VAE too."""
    return _saved(lora, models, "CheckpointSave", clip=None, vae=wan_vae())


def _swapped(lora: str, models: tuple) -> tuple:
    return models[1], models[0]


def _same_twice(lora: str, models: tuple) -> tuple:
    return models[0], models[0]


WIRED = {
    "stock loader": _stock_loader,
    "stock loader for one": _stock_low_loader,
    "merged": _merged,
    "added": _added,
    "merged by blocks": _merged_by_blocks,
    "model_low past the loader": _low_past_the_loader,
    "model past the loader": _high_past_the_loader,
    "saved and loaded": _saved,
    "saved as a checkpoint": _saved_as_checkpoint,
    "swapped": _swapped,
    "one for both": _same_twice,
}


def wired(kind: str, lora: str, frames: Tensor) -> Tensor:
    """The graph with its models wired in another way."""
    *models, info = pair(lora)
    found = video_edit(frames, info=info, size_mode="as trained")
    split = call("ByG_ExpertSplit", model=models[0], steps=4)[2]
    return sampled(WIRED[kind](lora, models), found, split=split)


def index_pair(lora: str, frames: Tensor) -> Tensor:
    """A LoRA trained at stock Wan's own positions works behind the stock loader."""
    *_, info = pair(lora)
    found = video_edit(frames, info=info, size_mode="as trained")
    return sampled(_stock_loader(lora, ()), found)
