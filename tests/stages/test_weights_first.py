"""`--weights FILE` is looked at before data are read, decoded and trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fqbench.config import configure
from fqbench.errors import DataError, FqbenchError, InputError
from fqbench.run import Run
from fqbench.stages.train import train
from fqbench.workspace import Workspace

torch = pytest.importorskip("torch")


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def state(name: str, classes: int = 2) -> dict[str, torch.Tensor]:
    import timm

    with torch.device("cpu"):
        return dict(timm.create_model(name, num_classes=classes).state_dict())


def run(tmp_path: Path, weights: Path) -> Run:
    """Training on a folder without a data set: an error about the weights has to come first."""
    (tmp_path / "empty").mkdir()
    flags = {"data": "folder", "root": tmp_path / "empty", "weights": str(weights)}
    return Run(configure(**flags), Workspace(tmp_path / "runs"))


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("missing.pth", None, InputError, "there is no weights file"),
        ("weights.zip", {}, InputError, "is not a weights file; --weights takes"),
        ("cut.pth", b"PK\x03\x04 cut short", DataError, "cannot be read safely"),
        ("pickle.pth", Malicious(), DataError, "contain objects of .*, which cannot be loaded without running code"),
        ("other.pth", "resnet14t", DataError, "do not fit the model: .*give the file of this architecture"),
    ],
)
def test_an_unfit_file_is_named_before_any_data_are_read(
    tmp_path: Path, name: str, content: object, error: type[FqbenchError], message: str
) -> None:
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(state(content) if isinstance(content, str) else content, file)
    with pytest.raises(error, match=message) as caught:
        train(run(tmp_path, file))
    text = str(caught.value)
    assert "\x1b" not in text
    assert "trust" not in text
    assert "\n" not in text


def test_a_file_that_fits_is_taken_whatever_its_number_of_classes(tmp_path: Path) -> None:
    torch.save(state("resnet10t", classes=1000), tmp_path / "fits.pth")
    with pytest.raises(InputError, match=r"empty has no metadata\.csv"):
        train(run(tmp_path, tmp_path / "fits.pth"))
