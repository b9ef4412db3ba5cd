"""Anyone's ONNX classifier becomes one normal form: float32 (N, 3, H, W) of normalized RGB in, logits per class out."""

from fqbench.models.adopt.adopting import VERSION, Adopted, adopt
from fqbench.models.adopt.classes import Meaning
from fqbench.models.adopt.conventions import digests
from fqbench.models.adopt.source import Source, read_source

__all__ = ["VERSION", "Adopted", "Meaning", "Source", "adopt", "digests", "read_source"]
