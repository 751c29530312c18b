"""ByG as a ComfyUI custom-node pack; the trainer lives in `byg_train/`.

`folder_paths` exists only inside ComfyUI, so that pytest and the trainer may import this file too.
"""

try:
    import folder_paths  # noqa: F401
except ModuleNotFoundError:
    pass
else:
    from .nodes import comfy_entrypoint  # noqa: F401  ComfyUI looks for it here

    WEB_DIRECTORY = "./web"
