"""What to quantize, and how: one setting for a whole network, and overrides for some of its layers."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

Bits = Literal[32, 8, 4, 2]
ActivationBits = Literal[32, 16, 8, 4, 2]
# Extremes as ranges, nearest rounding and no correction have one short name.
PLAIN = ("minmax", "minmax", "off", "nearest")
LOW = 8  # weights of fewer bits may be rounded from data
Role = Literal["first", "head", "depthwise", "squeeze-excite"]
Precision = Literal["bf16", "fp16"]


class Method(StrEnum):
    """How quantization parameters are found; ``cast`` only changes the floating-point type."""

    NONE = "none"
    PTQ_STATIC = "ptq_static"
    PTQ_DYNAMIC = "ptq_dynamic"
    QAT = "qat"
    CAST = "cast"


class Override(BaseModel):
    """Other settings for the layers that match all of ``name``, ``op`` and ``role`` that are given.

    Attributes
    ----------
    name : str or None
        Pattern of the module's path, as in ``layer4.*``; without a path, of the operator's name.
    op : str or None
        Operator type of the ONNX graph: ``Conv``, ``Sigmoid``.
    role : str or None
        ``first`` or ``head`` (the first and the last layer with weights), ``depthwise``, ``squeeze-excite``.
    bits, act_bits, range_rule, calib_policy, weight_rule
        As in `Scheme`; what is None is left as it is. 32 bits leave the layer in float.
    quantize : bool or None
        False: the operator stays in float, without quantization nodes around it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    op: str | None = None
    role: Role | None = None
    bits: Bits | None = None
    act_bits: ActivationBits | None = None
    range_rule: str | None = None
    calib_policy: str | None = None
    weight_rule: Literal["minmax", "mse"] | None = None
    quantize: bool | None = None

    @model_validator(mode="after")
    def _says_which_and_what(self) -> Override:
        if self.name is None and self.op is None and self.role is None:
            raise ValueError("an override must select its layers by name, op or role")
        if not self.changes:
            raise ValueError("an override must set at least one of bits, act_bits, range_rule, ... or quantize")
        return self

    @property
    def changes(self) -> dict[str, object]:
        """What it changes."""
        return self.model_dump(exclude={"name", "op", "role"}, exclude_none=True)


class Scheme(BaseModel):
    """A quantization scheme: weights per channel and symmetric, activations per tensor.

    Attributes
    ----------
    method : Method
        ``none`` keeps the model in float: FP32 is an artifact like any other.
    bits, act_bits : int
        Bits of weights and of activations; 32 is float.
    range_rule : str
        How a range comes from what was observed, for static methods (`fqbench.quant.rules`); ``auto`` lets the quantize
        stage choose on validation images.
    calib_policy : str
        How much each group counts in that, for static methods (`fqbench.quant.policies`).
    weight_rule : str
        How the scale of a channel's weights is found: ``minmax`` or ``mse``.
    bias_correction : str
        Whether biases are corrected for the mean shift that weight rounding causes in each channel: ``on``, ``off``,
        or ``auto``, where the quantize stage tries both on validation images; a plan for ``auto`` corrects nothing.
    rounding : str
        How weights of fewer than 8 bits become integers: ``nearest``, ``data`` (by the second moments of the layer's
        inputs on the calibration images, `fqbench.quant.rounding`), or ``auto``, where the quantize stage tries both; a
        plan for ``auto`` itself rounds from data. Weights of 8 bits are always rounded to nearest.
    overrides : tuple of Override
        Other settings for some layers; of several that match, the last one that says something counts.
    precision : str or None
        ``bf16`` or ``fp16`` with the method ``cast``, which quantizes nothing; else None.
    reduce_range : bool
        Weights of 8 bits use only 7, so that 16-bit sums of products cannot saturate (`fqbench.machine.IntegerSums`).
    rescaling : str
        Whether factors are moved between neighbouring layers of the FP32 graph before it is observed
        (`fqbench.quant.rescaling`): ``on``, ``off``, or ``auto``, where the quantize stage tries it on validation
        images together with the range rules; a plan for ``auto`` moves nothing, as with an explicit range rule.
    placement : str
        Which operators carry quantization nodes: ``rules``, those that the runtime fuses; or ``measured``, where the
        quantize stage also times variants that leave some in float. The overrides have the last word in both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = Method.PTQ_STATIC
    bits: Bits = 8
    act_bits: ActivationBits = 8
    range_rule: str = "minmax"
    calib_policy: str = "as-sampled"
    weight_rule: Literal["minmax", "mse"] = "mse"
    bias_correction: Literal["auto", "on", "off"] = "auto"
    rounding: Literal["auto", "nearest", "data"] = "auto"
    overrides: tuple[Override, ...] = ()
    precision: Precision | None = None
    reduce_range: bool = False
    rescaling: Literal["auto", "on", "off"] = "auto"
    placement: Literal["rules", "measured"] = "rules"

    @model_validator(mode="after")
    def _precision_with_cast(self) -> Scheme:
        if (self.method is Method.CAST) != (self.precision is not None):
            raise ValueError("a precision is stated with the method cast, and only there")
        if self.reduce_range and self.method is not Method.PTQ_STATIC:
            raise ValueError("reduce_range is for the method ptq_static")
        if self.rescaling == "on" and self.method is not Method.PTQ_STATIC:
            raise ValueError("rescaling is for the method ptq_static")
        if self.placement == "measured" and self.method is not Method.PTQ_STATIC:
            raise ValueError("placement measured is for the method ptq_static")
        return self

    @classmethod
    def float32(cls) -> Scheme:
        """Return the scheme that quantizes nothing."""
        return cls(method=Method.NONE, bits=32, act_bits=32, range_rule="none")

    @classmethod
    def cast(cls, precision: Precision) -> Scheme:
        """Return the scheme that computes the float model in a 16-bit floating-point type."""
        return cls(method=Method.CAST, bits=32, act_bits=32, range_rule="none", precision=precision)

    @property
    def is_float(self) -> bool:
        """Whether nothing is quantized: FP32, or a cast of it."""
        return self.method in {Method.NONE, Method.CAST}

    @property
    def needs_calibration(self) -> bool:
        """Whether activation ranges must be calibrated on images first."""
        return self.method is Method.PTQ_STATIC

    @property
    def has_low_bits(self) -> bool:
        """Whether some weights have fewer than 8 bits."""
        return min(self.weight_bits) < LOW

    @property
    def weight_bits(self) -> tuple[int, ...]:
        """Bits of the weights: of the whole, and of each override that states some."""
        return self.bits, *(override.bits for override in self.overrides if override.bits is not None)

    @property
    def uniform(self) -> Scheme:
        """The same without overrides."""
        return self.model_copy(update={"overrides": ()})

    @property
    def label(self) -> str:
        """Short name for tables and slugs: ``fp32``, ``int8``, ``int8-dynamic``, ``int4a8-mse+balanced`` ..."""
        if self.method is Method.NONE:
            return "fp32"
        if self.precision is not None:
            return self.precision
        bits = f"int{self.bits}" + (f"a{self.act_bits}" if self.act_bits != self.bits else "")
        bits += "-7bit" if self.reduce_range else ""
        bits += "-measured" if self.placement == "measured" else ""
        bits += "-rescaled" if self.rescaling == "on" else ""
        bits += "-unscaled" if self.rescaling == "off" and self.range_rule == "auto" else ""
        suffix = "" if self.method is Method.PTQ_STATIC else "-" + self.method.value.removeprefix("ptq_")
        if not self.needs_calibration:
            trained = "-wminmax" if self.method is Method.QAT and self.weight_rule == "minmax" else ""
            return bits + suffix + trained + self._mixed
        if (self.range_rule, self.weight_rule, self.bias_correction, self.rounding) == PLAIN:
            return (
                f"{bits}{suffix}-plain"
                + ("" if self.calib_policy == "as-sampled" else f"+{self.calib_policy}")
                + self._mixed
            )
        rule = "" if self.range_rule in {"minmax", "auto"} else f"-{self.range_rule}"
        policy = "" if self.calib_policy == "as-sampled" else f"+{self.calib_policy}"
        weights = "" if self.weight_rule == "mse" else f"-w{self.weight_rule}"
        corrected = {"auto": "", "on": "-corrected", "off": "-uncorrected"}[self.bias_correction]
        rounding = "" if self.rounding == "auto" else f"-{self.rounding}"
        return bits + suffix + rule + policy + weights + corrected + rounding + self._mixed

    @property
    def _mixed(self) -> str:
        """Ending for overrides; the digits tell one set of overrides from another."""
        text = "".join(override.model_dump_json(exclude_none=True) for override in self.overrides)
        return f"-mixed-{hashlib.sha256(text.encode()).hexdigest()[:4]}" if text else ""
