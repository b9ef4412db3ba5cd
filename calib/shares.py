"""How many images of each group to take if the shares are not whole numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def apportion(weights: NDArray[np.float64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Split ``n`` in proportion to ``weights``: whole parts first, then the largest remainders; ties are drawn.

    Parameters
    ----------
    weights : ndarray of float, shape (groups,)
        Above 0.
    n : int
        The sum of the result.
    rng : Generator
        Breaks ties.

    Returns
    -------
    ndarray of int, shape (groups,)
        At least 1 each where ``n`` allows it.
    """
    exact = weights / weights.sum() * n
    shares: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    order = np.lexsort((rng.random(len(weights)), shares - exact))
    shares[order[: n - shares.sum()]] += 1
    if n >= len(weights):
        for empty in np.flatnonzero(shares == 0):
            shares[np.argmax(shares)] -= 1
            shares[empty] = 1
    return shares
