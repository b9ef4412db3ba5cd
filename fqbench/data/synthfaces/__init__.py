"""The embedded data set: faces drawn by a program, in groups that make a smile easier or harder to see."""

from fqbench.data.synthfaces.dataset import NAME, NOTICE, SENSITIVE_FEATURES, SynthfacesOptions, draw, draw_batch, read
from fqbench.data.synthfaces.traits import CLASSES

__all__ = ["CLASSES", "NAME", "NOTICE", "SENSITIVE_FEATURES", "SynthfacesOptions", "draw", "draw_batch", "read"]
