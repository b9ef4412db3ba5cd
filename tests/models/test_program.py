"""Programs of torch.export: what is loaded, and what is refused before it could run."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.errors import DataError, FqbenchError, InputError
from fqbench.models.program import _compared, _plain, check, write_onnx
from tests.models.test_zoo import Poison

torch = pytest.importorskip("torch")


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(images)).mean((2, 3)))


def save(path: Path, *, free: bool = True) -> torch.nn.Module:
    torch.manual_seed(0)
    network = Small().eval()
    shapes = ({0: torch.export.Dim("batch", min=1)},) if free else None
    torch.export.save(torch.export.export(network, (torch.zeros(2, 3, 16, 16),), dynamic_shapes=shapes), path)
    return network


def rewrite(path: Path, change: Callable[[str, bytes], bytes | None], extra: dict[str, bytes] | None = None) -> None:
    """Write an archive again with other contents; None leaves a file out."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(contents)).partition("/")[0]
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "w") as archive:  # names may come twice
        for name, content in contents.items():
            made = change(name, content)
            if made is not None:
                archive.writestr(name, made)
        for name, content in (extra or {}).items():
            archive.writestr(f"{root}/{name}", content)


def pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def edited(part: str, edit: Callable[[str], str]) -> Callable[[str, bytes], bytes]:
    return lambda name, content: edit(content.decode()).encode() if part in name else content


@pytest.mark.slow
@pytest.mark.parametrize("free", [True, False])
def test_a_program_becomes_its_graph(tmp_path: Path, free: bool) -> None:
    import onnxruntime

    network = save(tmp_path / "small.pt2", free=free)
    assert write_onnx(tmp_path / "small.pt2", tmp_path / "small.onnx") < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "small.onnx")
    images = np.random.default_rng(1).normal(size=(5 if free else 2, 3, 16, 16)).astype(np.float32)
    (answer,) = session.run(None, {session.get_inputs()[0].name: images})
    with torch.inference_mode():
        np.testing.assert_allclose(answer, network(torch.from_numpy(images)).numpy(), atol=1e-5)


def test_a_graph_with_other_answers_names_the_usual_reason(classifier: Path) -> None:
    images = np.zeros((1, 3, 32, 32), np.float32)
    with pytest.raises(DataError, match=r"differs from it by up to .*; export the network in evaluation mode"):
        _compared(classifier, images, np.full((1, 2), 9e3, np.float32), Path("train.pt2"))


def test_what_would_run_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    poison = pickled({"x": Poison(target)})
    call = "__import__('os').mkdir('executed')"
    relu, as_it_was = "torch.ops.aten.relu.default", lambda _name, content: content
    cases: list[tuple[Callable[[str, bytes], bytes | None], dict[str, bytes], str]] = [
        (lambda name, content: poison if "sample_inputs" in name else content, {}, "has to be unpickled"),
        (edited("weights_config", lambda text: text.replace('pickle": false', 'pickle": true')), {}, "unpickled"),
        (as_it_was, {"data/weights/model.pt": poison}, r"model\.pt has to be unpickled"),
        (as_it_was, {"data/constants/opaque_obj_0": poison}, "has to be unpickled"),
        (as_it_was, {"data/aotinductor/model/a.so": b"x"}, "compiled code"),
        (as_it_was, {"models/model.json": b"{}"}, "two files of one name"),
        (edited("models/", lambda text: text.replace(relu, "torch.load")), {}, r"it calls torch\.load"),
        (edited("models/", lambda text: text.replace(relu, "torch.ops.mine.run.default")), {}, r"ops\.mine"),
        (edited("models/", lambda text: json.dumps(json.loads(text) | {"guards_code": [call]})), {}, "as code"),
        (edited("models/", lambda text: re.sub(r"Symbol\('\w+'[^)]*\)", call, text)), {}, "evaluated as code"),
    ]
    for change, extra, message in cases:
        path = tmp_path / "small.pt2"
        save(path)
        rewrite(path, change, extra)
        with pytest.raises(InputError, match=message):
            check(path)
    assert not target.exists()
    save(tmp_path / "small.pt2")
    check(tmp_path / "small.pt2")  # as it was written, it is taken


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, InputError, "there is no such file"),
        (b"", DataError, "is not a program of torch.export"),
        (b"PK\x03\x04 cut short", DataError, "is not a program of torch.export"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes | None, error: type[FqbenchError], message: str) -> None:
    if content is not None:
        (tmp_path / "x.pt2").write_bytes(content)
    with pytest.raises(error, match=message):
        check(tmp_path / "x.pt2")


def test_weights_are_not_a_program(tmp_path: Path) -> None:
    torch.save(Small().state_dict(), tmp_path / "x.pt2")
    with pytest.raises(InputError, match=r"holds no program of torch\.export"):
        check(tmp_path / "x.pt2")


@pytest.mark.parametrize("text", ["Symbol('s77', positive=True, integer=True)", "s0 + 2*s1", "Max(1, FloorDiv(s0, 2))"])
def test_sizes_are_plain(text: str) -> None:
    assert _plain(text)


@given(
    st.sampled_from(["exec", "eval", "open", "__import__", "getattr", "os", "lambda"]),
    st.sampled_from(["s0 + ", "", "("]),
)
def test_names_of_python_are_not(name: str, before: str) -> None:
    assert not _plain(f"{before}{name}('x')")
