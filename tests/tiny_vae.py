"""The VAE of the tiny random pipelines."""

from __future__ import annotations

from diffusers import AutoencoderKL


def tiny_vae() -> AutoencoderKL:
    """Four pixels to a latent, of 4 channels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.3,
        shift_factor=0.2,
    )
