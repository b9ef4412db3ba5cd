"""What ``config.json`` of a folder may hold; read without transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from fqbench.errors import DataError
from fqbench.models.huggingface import read_config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "it is not a mapping"),
        ("null", "it is not a mapping"),
        ('["model_type"]', "it is not a mapping"),
        ('{"model_type": 3}', "model_type is not text"),
        ('{"model_type": "vit", "architectures": 5}', "architectures is not a list"),
        ('{"model_type": "vit", "id2label": ["no", "yes"]}', "id2label does not name classes by number"),
        ('{"model_type": "vit", "id2label": {"zero": "no"}}', "id2label does not name classes by number"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_config(tmp_path)
