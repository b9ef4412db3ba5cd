"""All imports from torch.ao.quantization, which torch deprecates in favour of torchao; see decision 0050."""

from __future__ import annotations

import torch.ao.quantization.fx._decomposed  # registers the operators quantized_decomposed
from torch.ao.nn.intrinsic.qat import freeze_bn_stats, update_bn_stats
from torch.ao.quantization import (
    FakeQuantizeBase,
    QConfig,
    default_dynamic_quant_observer,
    default_per_channel_weight_observer,
    quantize_fx,
)
from torch.ao.quantization.fx.custom_config import PrepareCustomConfig
from torch.ao.quantization.qconfig_mapping import QConfigMapping

__all__ = [
    "FakeQuantizeBase",
    "PrepareCustomConfig",
    "QConfig",
    "QConfigMapping",
    "default_dynamic_quant_observer",
    "default_per_channel_weight_observer",
    "freeze_bn_stats",
    "quantize_fx",
    "quantized_decomposed",
    "update_bn_stats",
]

quantized_decomposed = torch.ops.quantized_decomposed
