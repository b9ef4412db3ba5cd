"""Random sampling: every image is as likely as any other, whatever its group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fqbench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


class Random:
    """Uniform draw without replacement over all images."""

    name = "random"

    def sample(
        self,
        samples: pd.DataFrame,
        n: int,
        *,
        by: Sequence[str],  # noqa: ARG002
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return ``n`` distinct row positions.

        Raises
        ------
        DataError
            There are fewer than ``n`` images.
        """
        if n > len(samples):
            raise DataError(f"{n} calibration images were asked for and there are {len(samples)}; lower --calib-n.")
        return rng.choice(len(samples), size=n, replace=False).astype(np.int64)
