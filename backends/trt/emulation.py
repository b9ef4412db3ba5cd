"""TensorRT's Q/DQ graph executed by onnxruntime: what the ranges do to the numbers, not what an engine will say.

Q/DQ nodes are executed as they stand, in float, with onnxruntime's own fusion into integer kernels switched off: so the
answers do not depend on the CPU's instructions, and no other runtime's integer rounding is taken for TensorRT's. Where
an engine may differ: it fuses an Add or an activation before it rounds, sums in another order, selects kernels again
in every build.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.optional import require
from fqbench.plugins import Arithmetic, SessionBase
from fqbench.reference_executor import reference_session

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNCOUNTED = "emulated"


class EmulatedSession(SessionBase):
    """A Q/DQ model on onnxruntime's CPU provider."""

    # All of it is float here, and says nothing of where TensorRT would compute what.
    arithmetic = Arithmetic(integer_macs=0, total_macs=0, uncounted=(UNCOUNTED,))

    def __init__(self, model: Path | bytes, *, threads: int) -> None:
        session = reference_session(model, threads=threads, settings={"session.disable_quant_qdq": "1"})
        self._run = session.run
        self._input = session.get_inputs()[0].name

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, 3, H, W) to logits (N, classes)."""
        logits: NDArray[np.float32] = self._run(None, {self._input: images})[0]
        return logits


def emulator() -> str:
    """Return the name and version of what emulates."""
    return f"onnxruntime {require('onnxruntime').__version__}"
