"""ByG as a ComfyUI custom-node pack; the trainer lives in `byg_train/`.

`folder_paths` exists only inside ComfyUI, so that pytest and the trainer may import this file too.
"""

try:  # noqa: SIM105  its else branch will hand ComfyUI the nodes
    import folder_paths  # noqa: F401
except ModuleNotFoundError:
    pass
