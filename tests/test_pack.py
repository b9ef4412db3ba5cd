"""Pack, run elsewhere, import: with ONNX Runtime on a CPU, and with archives that somebody has tampered with."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fqbench import pack as archives
from fqbench.config import configure
from fqbench.errors import DataError, FqbenchError, InputError, UnavailableError
from fqbench.run import Run
from fqbench.stages.evaluate import evaluate
from fqbench.stages.pack import Imported, import_results, pack, run_pack
from fqbench.stages.predict import predict_split
from fqbench.stages.quantize import quantize, reference, subjects
from fqbench.workspace import Workspace

MakeRun = Callable[..., Run]
Edit = Callable[[dict[str, bytes], dict], None]


@pytest.fixture
def run(make_run: MakeRun) -> Run:
    return make_run()


@pytest.fixture
def packed(run: Run, tmp_path: Path) -> Path:
    return pack(run, [reference(run), quantize(run)], tmp_path / "one.fqpack.zip")


def elsewhere(tmp_path: Path) -> Run:
    """A machine without the data set: an empty workspace that nothing may be written into."""
    options = configure(rounds=5, seconds=0.0)
    return Run(options, Workspace(tmp_path / "must-not-appear"))


def there_and_back(run: Run, packed: Path, tmp_path: Path) -> Imported:
    result = run_pack(elsewhere(tmp_path), packed)
    assert result == tmp_path / "one.fqresult.zip"
    assert not (tmp_path / "must-not-appear").exists()
    return import_results(run, result)


def test_what_comes_back_is_what_this_machine_says_too(run: Run, packed: Path, tmp_path: Path) -> None:
    imported = there_and_back(run, packed, tmp_path)
    assert len(imported.predictions) == 2
    for entry, artifact in zip(imported.predictions, (reference(run), quantize(run)), strict=True):
        here = predict_split(run, artifact)
        brought = predict_split(run, subjects(run, [entry.id])[-1])
        assert brought.entry.id == entry.id != here.entry.id
        np.testing.assert_array_equal(brought.predictions.logits, here.predictions.logits)
        assert brought.predictions.sample_ids.tolist() == here.predictions.sample_ids.tolist()
        assert brought.artifact.label.startswith(f"{artifact.label} (on ")
        facts = entry.manifest.determined_by
        assert facts["artifact"] == artifact.digest
        assert facts["runtime"] == here.entry.manifest.determined_by["runtime"]
        assert entry.facts.machine.cores >= 1
        assert entry.facts.versions_there["onnxruntime"]


def test_the_latency_is_a_measurement_of_that_machine(run: Run, packed: Path, tmp_path: Path) -> None:
    imported = there_and_back(run, packed, tmp_path)
    assert [one.id for one in imported.latency.subjects] == [reference(run).id, quantize(run).id]
    assert imported.latency.rounds == 5
    assert imported.latency.subjects[1].ratio is not None
    assert all(one.answers is not None and one.answers.same for one in imported.latency.subjects)
    assert imported.bench.manifest.kind == "benches"
    assert imported.bench.facts.where.startswith("on ")


def test_imported_and_own_predictions_are_evaluated_side_by_side(run: Run, packed: Path, tmp_path: Path) -> None:
    imported = there_and_back(run, packed, tmp_path)
    chosen = subjects(run, [quantize(run).id, imported.predictions[1].id])
    evaluation = evaluate(run, chosen)
    labels = [one.label for one in evaluation.artifacts]
    assert len(labels) == 3
    assert labels[1] == "ort int8/balanced"
    assert labels[2].startswith("ort int8/balanced (on ")


def test_import_again_is_a_cache_hit(run: Run, packed: Path, tmp_path: Path) -> None:
    first = there_and_back(run, packed, tmp_path)
    second = import_results(run, tmp_path / "one.fqresult.zip")
    assert [entry.id for entry in second.predictions] == [entry.id for entry in first.predictions]
    assert len(run.workspace.entries("predictions")) == 2


def test_the_same_contents_give_the_same_bytes(run: Run, packed: Path, tmp_path: Path) -> None:
    again = pack(run, [reference(run), quantize(run)], tmp_path / "two.fqpack.zip")
    assert again.read_bytes() == packed.read_bytes()


def test_labels_and_sensitive_features_stay_at_home(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        contents = b"".join(archive.read(name) for name in archive.namelist())
    assert not [word for word in (b"tone", b"dark", b"young") if word in contents]


def test_of_one_model_only(run: Run, make_run: MakeRun, classifier: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(classifier.read_bytes())
    second = make_run(onnx=other)
    with pytest.raises(InputError, match="several models; pack those of each model separately"):
        pack(run, [quantize(run), quantize(second)], tmp_path / "x.zip")
    with pytest.raises(InputError, match="nothing to pack"):
        pack(run, [], tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_a_pack_is_refused_where_its_runtime_is_not(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(backend="trt")
    packed = pack(run, subjects(run, [quantize(run).id]), tmp_path / "trt.fqpack.zip")
    with pytest.raises(UnavailableError, match=r"the backend trt cannot run here: .*tensorrt is not installed"):
        run_pack(elsewhere(tmp_path), packed)
    assert not list(tmp_path.glob("*.fqresult.zip"))


def tamper(path: Path, edit: Edit) -> Path:
    """Rewrite an archive; ``edit`` changes members and facts, and hashes are left as they are."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    facts = json.loads(members.pop(archives.FACTS))
    edit(members, facts)
    target = path.with_name("tampered.zip")
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(archives.FACTS, json.dumps(facts))
        for name, data in members.items():
            archive.writestr(name, data)
    return target


def _flip_a_byte(members: dict[str, bytes], facts: dict) -> None:
    data = bytearray(members["artifact1/model.onnx"])
    data[100] ^= 1
    members["artifact1/model.onnx"] = bytes(data)


def _longer(members: dict[str, bytes], facts: dict) -> None:
    members["images.npy"] += b"\0" * 10


def _missing(members: dict[str, bytes], facts: dict) -> None:
    del members["sample_ids.json"]


def _unlisted(members: dict[str, bytes], facts: dict) -> None:
    members["extra.sh"] = b"rm -rf /"


def _escape(members: dict[str, bytes], facts: dict) -> None:
    members["../evil"] = members.pop("sample_ids.json")
    facts["files"]["../evil"] = facts["files"].pop("sample_ids.json")


def _absolute(members: dict[str, bytes], facts: dict) -> None:
    facts["files"]["/etc/evil"] = {"size": 0, "sha256": ""}
    members["/etc/evil"] = b""


def _huge(members: dict[str, bytes], facts: dict) -> None:
    facts["files"]["images.npy"]["size"] = 1 << 60


def _other_format(members: dict[str, bytes], facts: dict) -> None:
    facts["format"] = 99


def _result(members: dict[str, bytes], facts: dict) -> None:
    facts["kind"] = archives.RESULT


def _no_sizes(members: dict[str, bytes], facts: dict) -> None:
    facts["files"]["images.npy"] = {"size": "many", "sha256": "x"}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_flip_a_byte, "artifact1/model.onnx is not what was packed"),
        (_longer, "images.npy is not what was packed"),
        (_missing, "sample_ids.json is missing, duplicated or not listed"),
        (_unlisted, "extra.sh is missing, duplicated or not listed"),
        (_escape, "'../evil' is not a valid file name in an archive; nothing was unpacked"),
        (_absolute, "'/etc/evil' is not a valid file name"),
        (_huge, "unpacking takes"),
        (_other_format, "has format 99, this fqbench reads 2"),
        (_result, "is a fqbench result, not a fqbench pack; it is for `fqbench import`"),
        (_no_sizes, "does not describe images.npy"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_tampered_archive(packed: Path, tmp_path: Path, edit: Edit, message: str) -> None:
    with pytest.raises(FqbenchError) as refused:
        run_pack(elsewhere(tmp_path), tamper(packed, edit))
    assert message in str(refused.value)
    assert not (tmp_path.parent / "evil").exists()


def _put(*place: str | int, value: object) -> Edit:
    def edit(_members: dict[str, bytes], facts: dict) -> None:
        part: Any = facts
        for key in place[:-1]:
            part = part[key]
        if value is None:
            del part[place[-1]]
        else:
            part[place[-1]] = value

    return edit


def _drop(*names: str) -> Edit:
    def edit(members: dict[str, bytes], facts: dict) -> None:
        for name in names:
            del members[name], facts["files"][name]

    return edit


def _other_images(members: dict[str, bytes], facts: dict) -> None:
    data = io.BytesIO()
    np.save(data, np.zeros((3, 4), np.float32))
    members["images.npy"] = data.getvalue()
    digest = hashlib.sha256(data.getvalue()).hexdigest()
    facts["files"]["images.npy"] = {"size": len(data.getvalue()), "sha256": digest}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_put("artifacts", value=None), "(artifacts: Field required)"),
        (_put("artifacts", value=[]), "(artifacts: Tuple should have at least 1 item"),
        (_put("artifacts", 0, "id", value="a/../../b"), "(artifacts.0.id: String should match"),
        (_put("artifacts", 0, "files", value=["../../secret"]), "has no artifact0/../../secret"),
        (_put("preprocessing", "size", value="x"), "(preprocessing.size"),
        (_put("batch_size", value=-1), "(batch_size: Input should be greater"),
        (_drop("images.npy"), "has no images.npy, which it needs"),
        (_other_images, "holds float32 images of shape [3, 4]"),
    ],
)
def test_a_pack_that_somebody_else_wrote(packed: Path, tmp_path: Path, edit: Edit, message: str) -> None:
    with pytest.raises(DataError) as refused:
        run_pack(elsewhere(tmp_path), tamper(packed, edit))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_put("machine", "cores", value="x"), "(machine.cores: Input should be a valid integer"),
        (_put("measured", 1, "level", value="fast"), "(measured.1.level: Input should be"),
        (_put("measured", 0, "arithmetic", value=None), "(measured.0.arithmetic: Field required)"),
        (_drop("predictions1.parquet"), "has no predictions1.parquet, which it needs"),
    ],
)
def test_a_result_that_somebody_else_wrote(run: Run, packed: Path, tmp_path: Path, edit: Edit, message: str) -> None:
    result = run_pack(elsewhere(tmp_path), packed)
    with pytest.raises(DataError) as refused:
        import_results(run, tamper(result, edit))
    assert message in str(refused.value)
    assert not run.workspace.entries("predictions")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*; check its name"):
        run_pack(elsewhere(tmp_path), tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(DataError, match="damaged or not an fqbench archive"):
        run_pack(elsewhere(tmp_path), tmp_path / "text.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(DataError, match=r"it has no fqbench.json"):
        run_pack(elsewhere(tmp_path), tmp_path / "empty.zip")


def test_a_result_for_another_workspace(run: Run, packed: Path, make_run: MakeRun, tmp_path: Path) -> None:
    result = run_pack(elsewhere(tmp_path), packed)
    stranger = Run(run.config, Workspace(tmp_path / "stranger"))
    with pytest.raises(InputError, match="no artifacts "):
        import_results(stranger, result)


def test_a_result_of_other_contents_under_the_same_name(run: Run, packed: Path, tmp_path: Path) -> None:
    result = run_pack(elsewhere(tmp_path), packed)

    def other_artifact(members: dict[str, bytes], facts: dict) -> None:
        facts["artifacts"][1]["digest"] = "0" * 64

    with pytest.raises(DataError, match="is not what was packed: its hash differs; pack it again"):
        import_results(run, tamper(result, other_artifact))
    assert not run.workspace.entries("predictions")


def test_nothing_is_left_where_an_archive_cannot_be_written(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written .*choose another place with --out"):
        pack(run, [quantize(run)], tmp_path / "no-such-folder" / "x.zip")


def test_a_place_that_can_only_be_read_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = quantize(run)

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("fqbench.pack.zipfile.ZipFile", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(InputError, match=r"x\.zip cannot be written .*choose another place with --out"):
        pack(run, [made], tmp_path / "x.zip")


def test_odd_names_are_not_packed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    for name in ("../a", "/a", "a/../b", ".hidden", archives.FACTS, "a\\b", ""):
        with pytest.raises(DataError, match="is not a valid file name"):
            archives.write_pack(tmp_path / "x.zip", archives.PACK, {}, {name: tmp_path / "a"})
