"""Every Python block of the documentation runs, and the generated parts are up to date."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
(STUDY,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.DOTALL)
EXAMPLES = BLOCK.findall((ROOT / "docs" / "api.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("example", EXAMPLES, ids=["quantize", "metrics", "scores", "shards", "study", "compare"])
def test_an_example_runs(example: str, photos: Path, classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").symlink_to(photos)
    shutil.copy(classifier, tmp_path / "model.onnx")
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_verb_has_an_example() -> None:
    from fqbench.cli import app

    def leaves(command: object) -> list[object]:
        children = getattr(command, "commands", {})
        return [leaf for child in children.values() for leaf in leaves(child)] if children else [command]

    texts = [(leaf.name, " ".join(leaf.help.split())) for leaf in leaves(app)]
    assert [name for name, text in texts if "Example: fqbench" not in text] == []


def test_links_in_the_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page}: {target}"
