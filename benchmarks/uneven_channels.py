"""Write weights of a trained residual network that compute the same function with channels of very unequal size.

Usage: python benchmarks/uneven_channels.py --out uneven.safetensors [--workspace DIR] [--spread 1.5] [...]

Between the two convolutions of each block a channel is multiplied by a factor, and the next convolution's weights are
divided by it; Relu lets a positive factor pass, so the answers in float stay. In 8 bits all channels of an activation
share one scale, and the small ones vanish: what Nagel et al. (2019, section 3) found in MobileNets as they come from
training. Any other flag of `fqbench train` chooses data and training. For `mitigation.py --model resnet10t --weights
uneven.safetensors --epochs 0`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from flags import flags_of
from safetensors.torch import load_file, save_file

import fqbench
from fqbench.models.train import CHECKPOINT
from fqbench.stages.train import train
from fqbench.terminal import TerminalReporter


def main() -> None:
    """Train the network where the workspace does not have it, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", default="mitigation_runs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--spread", type=float, default=1.5, help="standard deviation of the factors' logarithms")
    asked, rest = parser.parse_known_args()
    run = fqbench.experiment(asked.workspace, reporter=TerminalReporter(), model="resnet10t", **flags_of(rest))
    state = load_file(train(run).path / CHECKPOINT)
    generator = np.random.default_rng(0)
    blocks = [name.removesuffix("conv2.weight") for name in state if name.endswith("conv2.weight")]
    for block in blocks:
        channels = state[f"{block}conv2.weight"].shape[1]
        factors = torch.from_numpy(generator.lognormal(0.0, asked.spread, channels)).to(torch.float32)
        for name in ("weight", "bias"):
            state[f"{block}bn1.{name}"] *= factors
        state[f"{block}conv2.weight"] /= factors[None, :, None, None]
    save_file(state, asked.out)
    print(f"{asked.out}: {len(blocks)} blocks")


if __name__ == "__main__":
    main()
