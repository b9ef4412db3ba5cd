"""A user's ONNX file: its input, its preprocessing, and its outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ValidationError

from fqbench.config import ModelOptions, Preprocessing, PreprocessingOptions, size_text
from fqbench.errors import InputError
from fqbench.models.adopt.conventions import stated
from fqbench.models.adopt.graph import dimensions, shape_text
from fqbench.models.adopt.inputs import Convention
from fqbench.models.adopt.loading import load, unify
from fqbench.models.adopt.shapes import BATCH, MAX_MESSAGE, set_input_shape
from fqbench.onnx_graph import attribute, true_inputs, with_outputs
from fqbench.reference_executor import reference_session

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

HALF = frozenset({"float16", "bfloat16"})
WHOLE = frozenset({"uint8", "int8", "int16", "int32", "int64"})


@dataclass(frozen=True)
class Source:
    """What was read from a user's ONNX file, and how its images are prepared.

    Attributes
    ----------
    path : Path
        The file.
    model : ModelProto
        At one opset, with one output, float32, height and width fixed; the input is the author's.
    original : ModelProto
        As it was.
    output : str
        Name of the output.
    convention : Convention
        How the author turns a picture into the input.
    geometry : Preprocessing
        Size, fit, crop and interpolation; mean and std play no part.
    batch : int or None
        The fixed batch, or None where it is free.
    names : tuple of str
        The model's own classes, where they are written down.
    sources : tuple of str
        Files in which a part of this is written down.
    """

    path: Path
    model: ModelProto = field(repr=False)
    original: ModelProto = field(repr=False)
    output: str
    convention: Convention
    geometry: Preprocessing
    batch: int | None
    names: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def half(self) -> bool:
        """Whether it contains half-precision numbers, which limit the parity check."""
        from onnx import TensorProto

        kinds = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
        return any(tensor.data_type in kinds for tensor in self.original.graph.initializer) or (
            self.convention.dtype in HALF
        )

    def answers(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the file as it is on pictures, uint8 (N, H, W, 3), image by image or in its own batches.

        Returns
        -------
        ndarray of float32, shape (N, outputs)

        Raises
        ------
        InputError
            It does not run; the message has the runtime's reason.
        """
        given = self.convention.tensor(pixels)
        size, answers = self.batch or 1, []
        session = self._session()
        name = session.get_inputs()[0].name
        for start in range(0, len(given), size):
            part = given[start : start + size]
            padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            try:
                (answer,) = session.run([self.output], {name: padded})
            except Exception as error:
                raise InputError(
                    f"{self.path} does not run on images of {size_text(self.geometry.size)} pixels "
                    f"({first_line(error)}); check --size and --layout."
                ) from error
            answers.append(_per_image(np.asarray(answer), size, self.path)[: len(part)])
        found = np.concatenate(answers).astype(np.float32)
        if not np.isfinite(found).all():
            raise InputError(
                f"{self.path} answers with NaN or infinity for {int((~np.isfinite(found)).any(axis=1).sum())} of "
                f"{len(found)} images; check --scale-pixels, --mean and --std, or export it again."
            )
        return found

    def _session(self) -> Any:
        given = any(value.name == self.output for value in self.original.graph.output)
        model = self.original if given else with_outputs(self.original, [self.output])
        whole: Any = model.SerializeToString() if model.ByteSize() < MAX_MESSAGE else self.path
        try:
            return reference_session(whole, quiet=True)
        except Exception as error:
            if _is_brain(self.original):
                raise InputError(
                    f"{self.path} computes in bfloat16, which ONNX Runtime's CPU kernels do not; export it in float32, "
                    "as after model.float(), and let fqbench cast it: --method cast."
                ) from error
            step = "in float32" if self.convention.dtype == "float64" else "with operators of the ONNX standard"
            raise InputError(
                f"{self.path} cannot be run by ONNX Runtime ({first_line(error)}); export it {step}."
            ) from error


def _is_brain(model: ModelProto) -> bool:
    """Whether a graph holds or makes numbers in bfloat16."""
    from onnx import TensorProto

    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    return (
        any(tensor.data_type == TensorProto.BFLOAT16 for tensor in model.graph.initializer)
        or any(value.type.tensor_type.elem_type == TensorProto.BFLOAT16 for value in values)
        or any(attribute(node, "to") == TensorProto.BFLOAT16 for node in model.graph.node if node.op_type == "Cast")
    )


def read_source(path: Path, model_options: ModelOptions, asked: PreprocessingOptions) -> Source:
    """Read a user's ONNX file; its preprocessing comes from flags, else from metadata, and is never guessed.

    Raises
    ------
    InputError
        It is not a classifier of images, an option contradicts it, or something is stated nowhere.
    """
    original = load(path)
    written = stated(path, original)
    model = unify(original, model_options.output, path)
    layout = model_options.layout or "nchw"
    channels = model_options.channels or written.options.get("channels") or "rgb"
    given = model.graph.input[0]
    dtype = _dtype(next(v for v in original.graph.input if v.name == given.name), path)
    _check_axes(given, layout, channels, path)
    scale, said = _stated_values(model_options, asked, written.options, dtype, path)
    said = {**written.preprocessing, **said}
    said["size"] = _size(given, layout, said.get("size"), asked, path)
    missing = [name for name in ("size", "mean", "std") if said.get(name) is None]
    if missing:
        flags = " ".join(f"--{name}" for name in missing)
        raise InputError(
            f"{path} does not state its preprocessing: give {flags} "
            "(mean and std per channel, for values from 0 to 1), or --mean none if the graph normalizes by itself; "
            "`fqbench models check` tries the usual conventions."
        )
    try:
        geometry = Preprocessing.model_validate({k: v for k, v in said.items() if k not in {"mean", "std"}})
    except ValidationError as error:
        problem = error.errors()[0]
        what = ".".join(map(str, problem["loc"]))
        raise InputError(
            f"{path}: the preprocessing has the {what} {problem['input']!r}, but {problem['msg'].lower()}; export it "
            "with another input, or state --size, --fit, --crop and --interpolation."
        ) from error
    convention = Convention(layout, channels, scale, tuple(said["mean"]), tuple(said["std"]), dtype)
    batch = dimensions(given)[0]
    height, width = geometry.size
    count = 1 if channels == "gray" else 3
    sides = (count, height, width) if layout == "nchw" else (height, width, count)
    set_input_shape(model, (batch if isinstance(batch, int) else BATCH, *sides))
    fixed = batch if isinstance(batch, int) else None
    output = model.graph.output[0].name
    return Source(path, model, original, output, convention, geometry, fixed, written.classes, written.sources)


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, cut short."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]


def _stated_values(
    options: ModelOptions, asked: PreprocessingOptions, written: Any, dtype: str, path: Path
) -> tuple[int, dict[str, Any]]:
    """Return the scale of the pixel values, and the stated preprocessing."""
    said = asked.stated()
    if dtype in WHOLE:
        if options.scale_pixels == 1 or any(value != 0 for value in said.get("mean", ())):
            raise InputError(f"{path} takes {dtype} pixels from 0 to 255; leave --scale-pixels 1 and --mean out.")
        return 255, said | {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    return options.scale_pixels or written.get("scale_pixels") or 1, said


def _dtype(given: Any, path: Path) -> str:
    from onnx import helper

    kind = given.type.tensor_type.elem_type
    try:
        dtype = str(np.dtype(helper.tensor_dtype_to_np_dtype(kind)))
    except (KeyError, TypeError, ValueError):
        dtype = "unknown"
    dtype = "string" if dtype == "object" else dtype
    if dtype in {"float32", "float64", *HALF, *WHOLE}:
        return dtype
    raise InputError(f"{path} takes {given.name} of type {dtype}; numbers (float32, float16, uint8 …) are needed.")


def _check_axes(given: Any, layout: str, channels: str, path: Path) -> None:
    """Raise an error if an input is not a batch of images in the stated layout, and name the option that helps."""
    shape, text = dimensions(given), shape_text(given)
    if len(shape) != 4:
        raise InputError(f"{path} takes {text}; images of shape (N, 3, H, W), or (N, H, W, 3), are needed.")
    axis, other = (1, 3) if layout == "nchw" else (3, 1)
    count, elsewhere = shape[axis], shape[other]
    needed = 1 if channels == "gray" else 3
    if count == needed or not isinstance(count, int):
        return
    if elsewhere in {1, 3} and count not in {1, 3}:
        raise InputError(f"{path} takes {text}: add --layout {'nhwc' if layout == 'nchw' else 'nchw'}.")
    if count == 1:
        raise InputError(f"{path} takes {text}, images of one channel: add --channels gray.")
    if count == 3:
        raise InputError(f"{path} takes {text}, images of three channels: leave --channels gray out.")
    raise InputError(f"{path} takes {text}, images of {count} channels; 3 (RGB, BGR) or 1 (gray) are needed.")


def _size(given: Any, layout: str, said: Any, asked: PreprocessingOptions, path: Path) -> Any:
    """Return height and width: the graph's own, else the stated ones."""
    shape = dimensions(given)
    rows, columns = shape[2:] if layout == "nchw" else shape[1:3]
    if isinstance(rows, int) and isinstance(columns, int):
        if asked.size is not None and asked.size != (rows, columns):
            raise InputError(
                f"--size {size_text(asked.size)} contradicts the input of {path}, which is {rows}x{columns}."
            )
        return (rows, columns)
    if said is None:
        return None
    size = Preprocessing.model_validate({"size": said}).size
    for fixed, wanted in ((rows, size[0]), (columns, size[1])):
        if isinstance(fixed, int) and fixed != wanted:
            raise InputError(f"--size {size_text(size)} contradicts the input of {path}, which is {shape_text(given)}.")
    return size


def _per_image(answer: NDArray[Any], size: int, path: Path) -> NDArray[Any]:
    """Return one row of numbers per image."""
    if answer.ndim > 2 and answer.shape[0] == size and answer.size // size != max(answer.shape[1:]):
        raise InputError(
            f"{path} answers with {list(answer.shape[1:])} per image, which is not one score per class; choose another "
            "output with --output, or export the classifier's head, too."
        )
    if answer.size % size or answer.size == 0:
        raise InputError(
            f"{path} answers with shape {list(answer.shape)} for {size} image(s); one row per image is needed."
        )
    return answer.reshape(size, -1)


def likely_axes(path: Path) -> tuple[Literal["nchw", "nhwc"], Literal["rgb", "gray"]]:
    """Return layout and channels as far as the shape of a file's input tells them: NCHW and RGB where it does not."""
    model = load(path)
    shape = next(map(dimensions, true_inputs(model.graph)), [])
    if len(shape) != 4:
        return "nchw", "rgb"
    last = shape[3] in {1, 3} and shape[1] not in {1, 3}
    return ("nhwc" if last else "nchw"), ("gray" if shape[3 if last else 1] == 1 else "rgb")
