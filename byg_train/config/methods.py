"""The section `method` of a run, one class for each objective: what weighs its losses."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

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

    @property
    def identity_share(self) -> float:
        """Share of optimiser steps that train the identity loss alone."""
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

    def after(self, share: float) -> BygConfig:
        """Strong until `gentle_from`, gentle from there on."""
        if share < self.gentle_from:
            return self
        return self.model_copy(
            update={"lambda_prior": self.gentle_prior, "alpha": self.gentle_alpha}
        )

    @model_validator(mode="after")
    def _some_prior(self) -> BygConfig:
        if self.lambda_prior and not (self.directional or self.alpha):
            raise ValueError("directional and alpha are both 0: a prior without a term")
        return self


class SupervisedConfig(MethodConfig):
    """Eq. 1 on items with a `target_file_name`."""

    needs_pairs: ClassVar[bool] = True
    objective: Literal["supervised"] = "supervised"


METHODS: dict[str, type[MethodConfig]] = {"byg": BygConfig, "supervised": SupervisedConfig}


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
