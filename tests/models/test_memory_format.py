"""Which networks are trained channels last, and that one which torch cannot train so is trained at all."""

from __future__ import annotations

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

TRAINED = """
import torch
from fqbench.models.memory_format import memory_format_of
torch.set_num_threads(1)
model = torch.nn.Conv2d(3, 48, 1, stride=2)
order = memory_format_of(model)
model.to(memory_format=order)
for _ in range(20):
    images = torch.zeros(64, 64, 64, 3).permute(0, 3, 1, 2).contiguous(memory_format=order)
    model(images).sum().backward()
"""


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "last"), [(3, 1, 2, False), (3, 3, 2, True), (3, 1, 1, True), (16, 1, 2, True)]
)
def test_which_networks_are_trained_channels_last(channels: int, kernel: int, stride: int, last: bool) -> None:
    from fqbench.models.memory_format import memory_format_of

    network = torch.nn.Sequential(torch.nn.Conv2d(channels, 8, kernel, stride=stride), torch.nn.ReLU())
    assert memory_format_of(network) == (torch.channels_last if last else torch.contiguous_format)


def test_the_convolution_that_crashes_channels_last_is_trained() -> None:
    done = subprocess.run([sys.executable, "-c", TRAINED], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
