"""A model that OpenVINO has compiled, for each batch size that comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.plugins import SessionBase

from .arithmetic import float_precisions, measure_arithmetic

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class OpenVinoSession(SessionBase):
    """A loaded model.

    Parameters
    ----------
    model_of : callable
        Returns the model with its shapes fixed for a batch size: kernels are chosen for known shapes.
    compiled : callable
        Compiles a model for the device.
    batch : int
        The batch size to compile for at once.
    """

    def __init__(self, model_of: Callable[[int], Any], compiled: Callable[[Any], Any], batch: int = 1) -> None:
        self._model_of = model_of
        self._compiled = compiled
        model = model_of(batch)
        first = compiled(model)
        self.arithmetic = measure_arithmetic(first, model, batch)
        self.precisions = float_precisions(first)
        self._requests = {batch: first.create_infer_request()}

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, 3, H, W) to logits (N, classes)."""
        request = self._requests.get(len(images))
        if request is None:
            request = self._compiled(self._model_of(len(images))).create_infer_request()
            self._requests[len(images)] = request
        request.infer([images], share_inputs=True, share_outputs=True)
        return np.array(request.get_output_tensor(0).data, dtype=np.float32)
