"""The section `method` of a run, one class for each objective: what weighs its losses."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from .names import nearest
from .sections import Section


class MethodConfig(Section):
    """What every objective has."""

    needs_pairs: ClassVar[bool] = False  # whether items must have a `target_file_name`
    objective: str
    """What is trained for; the other settings of this section are the objective's own."""
    ema_decay: float | None = Field(0.999, gt=0, lt=1)
    """Decay of G_EMA per optimiser step, float32; null: a stop-gradient copy (App. C.1)."""
    prior_guidance: float = Field(1.0, ge=0)
    """Classifier-free guidance of the frozen base against the empty caption; 1 = none, one pass."""

    unrolls: ClassVar[bool] = False  # whether its steps need what `schedule.Unroll` draws

    @property
    def sees_source(self) -> bool:
        """Whether teacher and auxiliary, where there are any, are given the source."""
        return False

    @property
    def identity_share(self) -> float:
        """Share of optimiser steps that train the identity loss alone."""
        return 0.0

    @property
    def texts(self) -> set[str]:
        """Texts that are embedded beside those of the items."""
        return set()

    @property
    def settled_from(self) -> float:
        """Share of the run from which the settings hold with which it ends."""
        return 0.0

    def after(self, share: float) -> MethodConfig:
        """The settings that hold after this share of the run's steps."""
        return self


class BygConfig(MethodConfig):
    """Unpaired training (Algorithm 1): the weights of Eq. 5, and what the ablation leaves out."""

    objective: Literal["byg"] = "byg"
    lambda_cycle: float = Field(1.0, ge=0)
    """Weight of L_cycle (Eq. 3)."""
    lambda_prior: float = Field(1.0, ge=0)
    """Weight of both prior terms (Eq. 2)."""
    lambda_id: float = Field(0.2, ge=0)
    """Weight of L_id inside a full step."""
    alpha: float = Field(0.1, ge=0)
    """Weight of L_MSE inside the prior; the paper gives no value."""
    identity_probability: float = Field(0.15, ge=0, le=1)
    """Share of identity-only steps."""
    identity_rate: float = Field(1.0, gt=0, le=1)
    """Share p of the rows of a full step that L_id is asked for, each weighted 1 / p."""
    prior_rev_rate: float = Field(1.0, gt=0, le=1)
    """The same for the reverse prior: on average the same gradient, for fewer forwards."""
    gentle_from: float = Field(1.0, ge=0, le=1)
    """Share of the run after which lambda_prior and alpha have their gentle values; 1: never."""
    gentle_prior: float = Field(0.5, ge=0)
    """lambda_prior from then on: low enough for an edit that keeps the source to be the best."""
    gentle_alpha: float = Field(0.1, ge=0)
    """alpha from then on."""
    prior_by_t: tuple[tuple[float, float], ...] = ()
    """Points (t, factor) of lambda_prior over the noise level, joined by lines; []: 1 everywhere.

    `probe` recommends them where the base's direction is not to be relied on at every t.
    """
    directional: float = Field(1.0, ge=0)
    """Weight of L_dir inside the prior; 0, with alpha 1, is the study's row without it."""
    bootstrapping: bool = True
    """The forward pass gets the dreamt y_t; false: the noised source x_t (ablation)."""
    routing: bool = True
    """The reverse pass sees y_0 and learns through y_hat (Eq. 4); false: y_hat alone (ablation)."""
    reverse: bool = True
    """The reverse pass, with cycle and reverse prior; false: forward terms alone (ablation)."""

    @property
    def identity_share(self) -> float:
        """B.1's random identity steps."""
        return self.identity_probability

    @property
    def turns(self) -> bool:
        """Whether there is a gentle end."""
        return self.gentle_from < 1

    @property
    def settled_from(self) -> float:
        """Where the gentle end begins, if there is one."""
        return self.gentle_from if self.turns else 0.0

    def after(self, share: float) -> BygConfig:
        """Strong until `gentle_from`, gentle from there on."""
        if share < self.gentle_from or not self.turns:
            return self
        return self.model_copy(
            update={"lambda_prior": self.gentle_prior, "alpha": self.gentle_alpha}
        )

    @field_validator("prior_by_t", mode="before")
    @classmethod
    def _points(cls, value: Any) -> Any:
        points = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(point, list | tuple) and len(point) == 2 for point in points):
            raise ValueError("wanted points [t, factor], as [[0.2, 0.01], [0.4, 1]]")
        return value

    @field_validator("prior_by_t")
    @classmethod
    def _rises(cls, points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        times = [time for time, _ in points]
        if sorted(set(times)) != times or not all(0 <= time <= 1 for time in times):
            raise ValueError(f"the times are {times}: wanted rising ones from 0 to 1")
        # At 0 a term would reach no weight, which is what the check of gradients looks for.
        if not all(factor > 0 for _, factor in points):
            raise ValueError("a factor is not above 0: 0.01 leaves a time out as well")
        return points

    @model_validator(mode="after")
    def _some_prior(self) -> BygConfig:
        if self.lambda_prior and not (self.directional or self.alpha):
            raise ValueError("directional and alpha are both 0: a prior without a term")
        if self.turns and self.gentle_prior and not (self.directional or self.gentle_alpha):
            raise ValueError("directional and gentle_alpha are both 0: a prior without a term")
        return self


class SupervisedConfig(MethodConfig):
    """Eq. 1 on items with a `target_file_name`."""

    needs_pairs: ClassVar[bool] = True
    objective: Literal["supervised"] = "supervised"


class NpEditConfig(MethodConfig):
    """NP-Edit: a few-step editor, taught by a critic's yes and no and by distribution matching.

    "NPC": the authors' code (github nupurkmr9/npedit); the paper's own weights are not known.
    """

    unrolls: ClassVar[bool] = True
    objective: Literal["npedit"] = "npedit"
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Decay of a moving average of the student; null: none, as in NPC."""
    critic_weight: float = Field(0.01, ge=0)
    """Weight of either question of the critic (NPC: 0.02 of their mean); 0: no critic is loaded."""
    critic_rise: float = Field(1 / 7, ge=0, le=1)
    """Share of the run over which it rises from a tenth (NPC: 2,000 of 14,000 steps)."""
    identity_question: bool = True
    """Whether the critic is also asked if all else is as it was; false: the paper's ablation."""
    dmd_weight: float = Field(1.0, ge=0)
    """Weight of distribution matching (NPC: 1); 0: neither teacher nor auxiliary is asked."""
    teacher: Literal["base", "editor"] = "base"
    """Whose distribution is matched: the base's, by caption and without the source (NP-Edit), or
    that of the editor in `warmup.lora`, by instruction and with it (distillation)."""
    teacher_guidance: float = Field(3.5, ge=1)
    """Classifier-free guidance of the teacher (NPC: 3.5); 1: none."""
    teacher_guidance_strong: float = Field(7.5, ge=1)
    """The same for the types of edit in `strong_types` (NPC: 7.5)."""
    strong_types: tuple[str, ...] = ("remove", "shape_adjustment", "style_change", "pose_change")
    """Types of edit that are guided more strongly (NPC: remove, shape, style, action)."""
    teacher_negative: str = "low quality, artifacts"
    """What the teacher is guided away from (NPC)."""
    aux_updates: int = Field(5, ge=1)
    """Updates of the auxiliary before each one of the student, on batches of their own (NPC)."""
    aux_lr: float | None = Field(None, gt=0)
    """The auxiliary's learning rate; null: that of the student (NPC)."""
    nothing_probability: float = Field(0.01, ge=0, le=1)
    """Share of the items whose instruction becomes `nothing_text` (NPC, paper)."""
    nothing_text: str = Field("do nothing.", min_length=1)
    """The instruction under which the source must stay as it is."""
    nothing_weight: float = Field(1.0, ge=0)
    """Weight of the distance to the source of these items (NPC: 1)."""

    @property
    def sees_source(self) -> bool:
        """Whether teacher and auxiliary are given the source."""
        return self.teacher == "editor"

    @property
    def guides(self) -> bool:
        """Whether the teacher is ever asked about the negative text."""
        return max(self.teacher_guidance, self.teacher_guidance_strong) > 1

    @property
    def texts(self) -> set[str]:
        """The negative text and the instruction to do nothing."""
        return {self.teacher_negative, self.nothing_text}

    def guidance(self, edit_type: str) -> float:
        """The teacher's guidance for a type of edit."""
        strong = edit_type in self.strong_types
        return self.teacher_guidance_strong if strong else self.teacher_guidance

    def after(self, share: float) -> NpEditConfig:
        """The critic's weight rises from a tenth to the whole."""
        if not self.critic_weight or share >= self.critic_rise:
            return self
        risen = 0.1 + 0.9 * share / self.critic_rise
        return self.model_copy(update={"critic_weight": self.critic_weight * risen})

    @model_validator(mode="after")
    def _some_teacher(self) -> NpEditConfig:
        if not (self.critic_weight or self.dmd_weight):
            raise ValueError("critic_weight and dmd_weight are both 0: nothing teaches the student")
        return self


METHODS: dict[str, type[MethodConfig]] = {
    "byg": BygConfig,
    "supervised": SupervisedConfig,
    "npedit": NpEditConfig,
}


def method_class(tables: dict[str, Any]) -> type[MethodConfig]:
    """The section of the objective that these settings name; ValueError for an unknown one."""
    name = tables.get("objective", "byg")
    if name not in METHODS:
        hint = f"{nearest(str(name), list(METHODS))} (known: {', '.join(METHODS)})"
        raise ValueError(f"unknown objective {name!r}{hint}")
    return METHODS[name]


def _as_its_objective_takes_it(value: Any) -> Any:
    """Settings of the other objectives are left out: one setting turns a preset into another's."""
    if not isinstance(value, dict):
        return value
    own = method_class(value)
    others = {name for section in METHODS.values() for name in section.model_fields}
    foreign = others - own.model_fields.keys()
    return own.model_validate({k: v for k, v in value.items() if k not in foreign})


Method = Annotated[SerializeAsAny[MethodConfig], BeforeValidator(_as_its_objective_takes_it)]
