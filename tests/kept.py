"""What a supervised step of a tiny world's base keeps for backward, and what the plan says."""

from __future__ import annotations

import torch

from byg_train.config import TrainConfig
from byg_train.core.roles import EditBatch
from byg_train.core.schedule import Draw, time_grid
from byg_train.family import family_of
from byg_train.models.backbone import load_backbone
from byg_train.models.lora import LoraBank
from byg_train.models.networks import network
from byg_train.objectives import objective_of
from byg_train.training.assembly import make_roles
from byg_train.training.bench import works
from byg_train.training.cost import memory
from byg_train.training.peak import peak_saved_bytes

BATCH = 2


def kept_and_planned(config: TrainConfig) -> tuple[float, float, float]:
    """Bytes measured and planned, and those of one boundary between blocks."""
    backbone, net = load_backbone(config.model, "cpu"), network(config.model)
    bank = LoraBank(backbone.experts, config.lora, config.method.ema_decay, 0)
    side = config.data.resolution // backbone.multiple * backbone.multiple
    with torch.no_grad():
        pixels = torch.rand(BATCH, 3, config.data.frames, side, side)
        x = backbone.encode_pixels(2 * pixels - 1)
        texts = [backbone.encode_text(["a red thing"] * BATCH) for _ in range(4)]
    empty = {name: text[0] for name, text in texts[0].items()}
    G = make_roles(config, backbone, bank, empty)
    draw = Draw(torch.randn_like(x), torch.full((BATCH,), 0.95), time_grid(2, 1.0))
    work = works(objective_of(config), G, EditBatch(x, *texts), draw, config.method)["supervised"]
    kept = peak_saved_bytes(work, list(backbone.experts.parameters()))
    train = config.train.model_copy(update={"batch_size": BATCH})
    bases = family_of(config.model.family).bases
    text, image = bases.token_counts(config.model, side, side, config.data.frames)
    planned = memory(config.model_copy(update={"train": train}), net, text, image, side**2)
    boundary = BATCH * net.sequence(text, image, source=True) * net.width * 4
    return kept, planned.activations, boundary
