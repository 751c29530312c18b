"""Build the parts of a run from its configuration; mistakes in it show before any encoding."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..config import ConfigError, TrainConfig
from ..core.critic import CriticLoss
from ..core.roles import Roles, Velocity
from ..critics.questions import question_maker
from ..data.batches import Batches, collate, to_device
from ..data.cache import Cache
from ..editing.editor import Editor
from ..family import family_of
from ..machine import preferred_dtype, resolve_dtype
from ..models.backbone import Backbone, Text, load_backbone, sent
from ..models.lora import LoraBank, target_names
from ..models.lora_file import read_lora
from ..models.sampler import guided
from ..models.streaming import place
from ..objectives import objective_of
from ..progress import Progress
from .optimizer import build_optimizer, require_optimizer
from .origin import warmup_files
from .processes import processes
from .run_folder import lora_info, own_dtype
from .validation import Validator

if TYPE_CHECKING:
    from ..data.items import Dataset

log = logging.getLogger("byg_train")


def settle_dtype(config: TrainConfig, run: Path, device: str, *, resume: bool) -> TrainConfig:
    """The run with the type that it computes in: a resumed one keeps its own on any machine."""
    own, here = own_dtype(run) if resume else None, preferred_dtype(device)
    dtype = resolve_dtype(own or config.model.dtype, device)
    if own and own != here.dtype and config.model.dtype == "auto":
        log.warning(
            "this run was begun in %s and goes on in it, as the same run; a new one would use %s "
            "here (%s) and can start from this one's LoRA: warmup.lora=FILE",
            own,
            here.dtype,
            here.why,
        )
    elif config.model.dtype == "auto":
        log.info("computing in %s: %s", dtype, here.why)
    return config.with_dtype(dtype)


class TrainableModel(NamedTuple):
    """The base, the LoRA in it, and what trains the LoRA."""

    backbone: Backbone
    bank: LoraBank
    optimizer: torch.optim.Optimizer


class RunParts(NamedTuple):
    """Everything that a run needs before its first step."""

    accelerator: Accelerator
    backbone: Backbone
    bank: LoraBank
    optimizer: torch.optim.Optimizer
    helper_optimizer: torch.optim.Optimizer | None  # of what is trained beside the editor
    cache: Cache
    batches: Batches
    validator: Validator
    roles: Roles


def assemble(config: TrainConfig, data: Dataset, output: Path, device: str) -> RunParts:
    """Encode what the cache lacks, then load the networks and put the LoRA in.

    So text encoders and networks are never in memory together. Held-out items are set aside.
    """
    processes().meet()  # the back end waits for all, and not for long
    if device != "cpu":  # what is float32 beside the network, such as a VAE, in TF32
        torch.set_float32_matmul_precision("high")
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision="no",  # whatever its launcher was told: nothing is prepared by it
        log_with=["tensorboard", *(["wandb"] if config.train.wandb else [])],
        project_dir=output,
    )
    backbone = load_backbone(config.model, str(accelerator.device))
    # What is mistaken shows before anything is encoded.
    require_optimizer(config)
    target_names(backbone.outline(), config.lora.targets)
    cache = encode(config, data, backbone)
    backbone, bank, optimizer = put_lora(config, backbone, accelerator.device)
    editor = live_editor(config, data, cache, backbone, bank)
    return RunParts(
        accelerator,
        backbone,
        bank,
        optimizer,
        helper_optimizer(config, bank),
        cache,
        Batches(data.train, cache, 1, config.seed, config.method),
        build_validator(config, data, cache, editor, accelerator.device),
        make_roles(config, backbone, bank, cache.text(""))._replace(
            judge=judge_for(config, backbone)
        ),
    )


def build_model(config: TrainConfig, device: str) -> TrainableModel:
    """A base with a LoRA in it, and what trains it."""
    return put_lora(config, load_backbone(config.model, device), device)


def put_lora(config: TrainConfig, backbone: Backbone, device: torch.device | str) -> TrainableModel:
    """Put the LoRA in, where the warm-up file left off if there is one; loads the networks."""
    trained = {e: n for e, n in backbone.experts.items() if config.train.trains(e)}
    if not trained:
        raise ConfigError(one_network(config))
    if bare := backbone.experts.keys() - trained.keys():
        backbone.without_lora = bare
    more = objective_of(config).adapters(config)
    networks, decay = nn.ModuleDict(trained), config.method.ema_decay
    bank = LoraBank(networks, config.lora, decay, config.seed, more)
    for expert, path in warmup_files(config, list(trained)).items():
        bank.load_tensors(expert, read_lora(path).by_diffusers_names())
    if config.method.sees_source:
        for role in more:  # the teacher is that editor, and what it draws is known from the start
            bank.copy_to(role)
    # Before the weights go to their device: the objects stay the same.
    optimizer = build_optimizer(config, list(bank.named_parameters().values()))
    if config.model.placement != "whole":
        processes().meet()  # others may still load, and what is cut waits for all
    place(backbone, bank, config.model.placement, torch.device(device))
    return TrainableModel(backbone, bank, optimizer)


def helper_optimizer(config: TrainConfig, bank: LoraBank) -> torch.optim.Optimizer | None:
    """The optimiser of what the objective trains beside the editor, if it does."""
    helper = objective_of(config).helper
    if helper is None or helper.role not in bank.adapters:
        return None
    return build_optimizer(config, list(bank.named_parameters(helper.role).values()))


def judge_for(config: TrainConfig, backbone: Backbone) -> CriticLoss | None:
    """The critic with its questions, where the objective has one."""
    if not getattr(config.method, "critic_weight", 0):
        return None
    from ..critics.judge import EditJudge, load_critic

    device = config.critic.device or str(backbone.device)
    critic = load_critic(config.critic, device)
    identity = config.method.identity_question
    ask = question_maker(config.critic.questions, identity=identity)
    return EditJudge(critic, ask, backbone.decode_latents, torch.device(device))


def one_network(config: TrainConfig) -> str:
    """Why one expert of two cannot be trained where there are no two."""
    return (
        f"train.expert is {config.train.expert!r}, and {config.model.path} has one network: set "
        f"train.expert to 'both'"
    )


def encode(config: TrainConfig, data: Dataset, backbone: Backbone) -> Cache:
    """Latents and embeddings of every item, from the cache where it has them."""
    items = [*data.train, *data.test, *(item.target for item in data.train if item.target)]
    cache = Cache(config.data.cache or Path(config.data.path) / ".byg_cache", backbone, config.data)
    texts = {"", config.sample.negative, *config.method.texts}
    mine = processes().share(items)
    with Progress(len(mine), "encoding") as progress:
        cache.prepare(mine, texts, progress.advance)
    if processes().world > 1:
        processes().meet()
        # Where machines have a cache each, what others have encoded is missing here.
        cache.prepare(items, texts, lambda done: None)
    backbone.drop_encoders()
    return cache


def live_editor(
    config: TrainConfig, data: Dataset, cache: Cache, backbone: Backbone, bank: LoraBank
) -> Editor:
    """The editor that a run's LoRA file will make, with the weights as they are in training."""
    info = lora_info(config, data, backbone.multiple, steps=0)
    # Clips are large: a batch of them would need the memory of a batch.
    return Editor(backbone, bank, info, texts=cache, one_by_one=family_of(info.family).is_video)


def build_validator(
    config: TrainConfig, data: Dataset, cache: Cache, editor: Editor, device: torch.device
) -> Validator:
    """Validate on the first held-out items of one bucket, since a batch has one size."""
    items = data.test or data.train
    bucket = cache.bucket(items[0])
    shown = [i for i in items if cache.bucket(i) == bucket][: config.sample.count]
    batch = to_device(collate(shown, cache), device)
    return Validator(editor, batch, [i.instruction for i in shown], config)


def make_roles(config: TrainConfig, backbone: Backbone, bank: LoraBank, empty: Text) -> Roles:
    """The networks that a step asks, each with its guidance.

    `empty` is the empty caption's embedding, without a batch axis.
    """
    guidance = config.guidance
    # What is unrolled is trained as it is sampled.
    own = guidance.sample if config.method.unrolls else guidance.train
    return bank.roles(
        edit=partial(backbone.velocity, guidance=own),
        base=prior_velocity(config, backbone, empty),
        teacher=partial(backbone.velocity, guidance=guidance.sample),
    )


def prior_velocity(config: TrainConfig, backbone: Backbone, empty: Text) -> Velocity:
    """The frozen base, with classifier-free guidance where `prior_guidance` is not 1."""
    w = config.method.prior_guidance

    def prior(x_t: Tensor, t: Tensor, text: Text, source: Tensor | None = None) -> Tensor:
        velocity = partial(backbone.velocity, x_t, t, source=source, guidance=config.guidance.prior)
        if w == 1:
            return velocity(text)
        nothing = {k: sent(e, x_t.device).expand(len(x_t), *e.shape) for k, e in empty.items()}
        return guided(velocity, text, nothing, w)

    return prior
