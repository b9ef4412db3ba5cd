"""What to quantize, and how: the scheme that a backend is asked for."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

Bits = Literal[32, 8, 4, 2]


class Method(StrEnum):
    """How quantization parameters are found."""

    NONE = "none"
    PTQ_STATIC = "ptq_static"
    PTQ_DYNAMIC = "ptq_dynamic"
    QAT = "qat"
    MIXED_PRECISION = "mixed_precision"


class Scheme(BaseModel):
    """A quantization scheme: weights per channel and symmetric, activations per tensor.

    Attributes
    ----------
    method : Method
        ``none`` keeps the model in float: FP32 is an artifact like any other.
    bits, act_bits : int
        Bits of weights and of activations; 32 is float.
    range_rule : str
        How a range comes from what was observed, for static methods (`fqbench.quant.rules`).
    calib_policy : str
        How much each group counts in that, for static methods (`fqbench.quant.policies`).
    weight_rule : str
        How the scale of a channel's weights is found: ``minmax`` or ``mse``.
    bias_correction : str
        Whether biases take back the mean shift that rounding the weights gives each channel: ``on``, ``off``, or
        ``auto``, where the quantize stage tries both on validation images and asks the backend for the better one; a
        backend that is asked for ``auto`` itself has no images to try on, and corrects nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = Method.PTQ_STATIC
    bits: Bits = 8
    act_bits: Bits = 8
    range_rule: str = "minmax"
    calib_policy: str = "as-sampled"
    weight_rule: Literal["minmax", "mse"] = "mse"
    bias_correction: Literal["auto", "on", "off"] = "auto"

    @classmethod
    def float32(cls) -> Scheme:
        """Return the scheme that quantizes nothing."""
        return cls(method=Method.NONE, bits=32, act_bits=32, range_rule="none")

    @property
    def needs_calibration(self) -> bool:
        """Whether activation ranges have to be found on images beforehand."""
        return self.method in {Method.PTQ_STATIC, Method.MIXED_PRECISION}

    @property
    def label(self) -> str:
        """Short name for tables and slugs: ``fp32``, ``int8``, ``int8-dynamic``, ``int4a8-mse+balanced`` ..."""
        if self.method is Method.NONE:
            return "fp32"
        bits = f"int{self.bits}" + (f"a{self.act_bits}" if self.act_bits != self.bits else "")
        suffix = "" if self.method is Method.PTQ_STATIC else "-" + self.method.value.removeprefix("ptq_")
        if not self.needs_calibration:
            trained = "-wminmax" if self.method is Method.QAT and self.weight_rule == "minmax" else ""
            return bits + suffix + trained
        rule = "" if self.range_rule == "minmax" else f"-{self.range_rule}"
        policy = "" if self.calib_policy == "as-sampled" else f"+{self.calib_policy}"
        weights = "" if self.weight_rule == "mse" else f"-w{self.weight_rule}"
        corrected = {"auto": "", "on": "-corrected", "off": "-uncorrected"}[self.bias_correction]
        return bits + suffix + rule + policy + weights + corrected
