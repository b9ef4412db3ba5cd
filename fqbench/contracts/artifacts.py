"""Values passed between stages and plug-ins: an exported model, and an artifact made from it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.contracts.scheme import Scheme
from fqbench.contracts.task import PredictionTask

if TYPE_CHECKING:
    from fqbench.config import Preprocessing
    from fqbench.contracts.qat_parameters import QatParameters


TRAVELS = ("id", "digest", "sampler", "model_id", "model_digest", "batch", "task", "reduced_range")


@dataclass(frozen=True)
class ExportedModel:
    """A classifier as FP32 ONNX, with its preprocessing, classes and input shape.

    Attributes
    ----------
    id, name : str
        Id in the workspace, and the model's plain name.
    path : Path
        The ONNX file: one float32 input (N, 3, H, W) with N dynamic, one output of logits (N, classes).
    digest : str
        SHA-256 of the model's files.
    classes : tuple of str
        Names of the classes, or of the attributes, in the order of the logits.
    preprocessing : Preprocessing
        From a picture to the input tensor.
    architecture : str
        Name of the classifier that it was exported from, as for ``--model``; empty for ONNX files.
    checkpoint : Path or None
        The weights that it was exported from.
    learned : QatParameters or None
        The scales that quantization-aware training gave it.
    batch : int or None
        Images per run, where the graph takes no other number.
    task : PredictionTask
        Whether the logits are of classes or of attributes.
    """

    id: str
    name: str
    path: Path
    digest: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    architecture: str = ""
    checkpoint: Path | None = None
    learned: QatParameters | None = None
    batch: int | None = None
    task: PredictionTask = PredictionTask.CLASSES

    def batch_size(self, wanted: int) -> int:
        """Return the batch size to use: the requested one, unless the graph has a fixed batch."""
        return self.batch or wanted

    @property
    def files(self) -> tuple[Path, ...]:
        """The ONNX file, with its external data next to it for models above 2 GB."""
        external = self.path.with_name(self.path.name + ".data")
        return (self.path, external) if external.is_file() else (self.path,)

    def copy_files(self, out: Path) -> tuple[str, ...]:
        """Copy the files into a folder under the same names, which the graph has for its external data; return them."""
        for file in self.files:
            shutil.copyfile(file, out / file.name)
        return tuple(file.name for file in self.files)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return (3, *self.preprocessing.size)


@dataclass(frozen=True)
class Artifact:
    """A model in a runtime's own file(s), as a backend wrote them.

    Attributes
    ----------
    backend : str
        Name of the backend that wrote it and can load it.
    scheme : Scheme
        What was asked for.
    root : Path
        Folder of the files.
    files : tuple of str
        Names in ``root``; the first is what the runtime opens.
    details : mapping
        Facts from the backend (ranges, versions), as JSON values.
    id, digest : str
        Set when the workspace has published it.
    sampler : str
        Sampler of the calibration images; empty if none were needed.
    model_id, model_digest : str
        The FP32 model that it was made of.
    batch : int or None
        Images per run, where it takes no other number.
    where : str
        Said after its name where its answers were not given by its own runtime on this machine: ``emulated``, or the
        machine that they were measured on.
    answers : str
        Id of the predictions that were measured elsewhere; empty where it is to be run.
    decision : mapping
        The rule by which it decides (`fqbench.fairness.decisions.DecisionRule.to_dict`); empty for the largest logit.
    task : PredictionTask
        Whether its logits are of classes or of attributes.
    reduced_range : bool
        Whether its 8-bit weights use 7 bits, asked for or chosen: then the sums of no CPU saturate.
    """

    backend: str
    scheme: Scheme
    root: Path
    files: tuple[str, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    digest: str = ""
    sampler: str = ""
    model_id: str = ""
    model_digest: str = ""
    batch: int | None = None
    where: str = ""
    answers: str = ""
    decision: Mapping[str, Any] = field(default_factory=dict)
    task: PredictionTask = PredictionTask.CLASSES
    reduced_range: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; ``root``, the location, is not part of them."""
        values = {name: getattr(self, name) for name in ("backend", *TRAVELS)}
        scheme = self.scheme.model_dump(mode="json")
        return {**values, "scheme": scheme, "files": list(self.files), "details": dict(self.details)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], root: Path) -> Artifact:
        """Read what `to_dict` returned; its files are in ``root``."""
        return cls(
            scheme=Scheme.model_validate(values["scheme"]),
            root=root,
            files=tuple(values["files"]),
            details=values["details"],
            backend=values["backend"],
            **{name: values[name] for name in TRAVELS if name in values and name != "task"},
            task=PredictionTask(values.get("task", PredictionTask.CLASSES)),
        )

    @property
    def label(self) -> str:
        """Name in tables: backend, scheme, sampler, and where it was run, as in ``ort int8/balanced (on edge-box)``."""
        decision = " +threshold" if self.decision else ""
        name = f"{self.backend} {self.scheme.label}" + (f"/{self.sampler}" if self.sampler else "") + decision
        return f"{name} ({self.where})" if self.where else name

    @property
    def main_file(self) -> Path:
        """The file that the runtime opens."""
        return self.root / self.files[0]

    @property
    def size_on_disk(self) -> int:
        """Total bytes of all files, without a copy that is only for other programs."""
        own = [name for name in self.files if name != self.details.get("portable")]
        return sum((self.root / name).stat().st_size for name in own)
