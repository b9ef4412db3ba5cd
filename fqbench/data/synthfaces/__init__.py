"""The embedded data set: faces drawn by a program, in groups that make a smile easier or harder to see."""

from fqbench.data.synthfaces.dataset import NAME, NOTICE, SynthfacesOptions, draw, draw_batch, read

__all__ = ["NAME", "NOTICE", "SynthfacesOptions", "draw", "draw_batch", "read"]
