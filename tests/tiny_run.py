"""Settings of a training on `conftest.tiny_base` that takes a second."""

from __future__ import annotations

SMALL = {
    "model": {"dtype": "float32", "text_len": 24, "gradient_checkpointing": False},
    "data": {"resolution": 16, "holdout": 1},
    "method": {"ema_decay": 0.9, "identity_probability": 0.3},
    "rollout": {"steps": 3},
    "warmup": {"min_steps": 2, "max_steps": 2},
    "lora": {"rank": 4},
    "train": {
        "steps": 4,
        "batch_size": 2,
        "global_batch": 4,
        "sample_every": 2,
        "checkpoint_every": 2,
        "check_gradients_every": 2,
        "keep_checkpoints": 9,
    },
    "sample": {"steps": 2, "shift": 1.0, "count": 2},
}
