"""What a person may want otherwise than a LoRA's metadata says."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..models.lora_file import LoraInfo


@dataclass(frozen=True)
class SamplingOverrides:
    """Settings that go before those of the metadata; None keeps what the metadata says."""

    steps: int | None = None
    sampler: str | None = None
    shift: float | None = None
    cfg: float | None = None
    cfg_low: float | None = None
    negative: str | None = None
    guidance: float | None = None  # the value of the guidance embedding
    resolution: int | None = None  # edit at about resolution^2 pixels

    def applied_to(self, info: LoraInfo) -> LoraInfo:
        """The metadata with these settings; an override of `cfg` alone holds for both experts."""
        given = {
            "sample_steps": self.steps,
            "sampler": self.sampler,
            "sample_shift": self.shift,
            "cfg": self.cfg,
            "cfg_low": self.cfg_low,
            "negative": self.negative,
            "guidance_sample": self.guidance,
            "resolution": self.resolution,
        }
        both = {} if self.cfg is None else {"cfg_low": None}
        return replace(info, **both | {k: v for k, v in given.items() if v is not None})
