"""The models of Wan that are known by their names. No other file looks at one."""

from __future__ import annotations

import re
from pathlib import Path

from ...config import ModelConfig

# Wan2.2-T2V-A14B and TI2V-5B, and Wan2.1-T2V-1.3B, in the names of hub repositories and folders.
A14B = re.compile(r"wan[._-]?2[._-]?2[._-]t2v[._-]a?14b", re.IGNORECASE)
TI2V_5B = re.compile(r"wan[._-]?2[._-]?2[._-]ti2v[._-]5b", re.IGNORECASE)
T2V_1_3B = re.compile(r"wan[._-]?2[._-]?1[._-]t2v[._-]1[._]3b", re.IGNORECASE)
FILE_1_3B = "wan2.1_t2v_1.3B_fp16.safetensors"
# All of them under one licence.
FREE = re.compile(r"wan[._-]?2[._-]?[12]", re.IGNORECASE)
# Pixels of a token: the 5B's VAE has 16 to a latent, Wan 2.1's, which the others share, has 8.
MULTIPLE, MULTIPLE_5B = 16, 32


def is_5b(config: ModelConfig) -> bool:
    """Whether a base that is not here, or is a single file, is the 5B: as its names say."""
    return _named(config, "5B")


def is_1_3b(config: ModelConfig) -> bool:
    """Likewise, whether it is Wan 2.1's 1.3B."""
    return _named(config, "1.3B") or _named(config, "1_3B")


def _named(config: ModelConfig, word: str) -> bool:
    names = [Path(name).name for name in (config.path, config.components) if name]
    return any(word in name.upper() for name in names)
