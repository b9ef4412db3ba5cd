"""The options of a backend, as `fqbench doctor NAME` explains them."""

from __future__ import annotations

from fqbench import plugins
from fqbench.report.health import backend_document


def test_every_option_of_a_backend_is_explained() -> None:
    backend = plugins.backend("trt")
    (sheet,) = backend_document(backend).sheets
    assert {row[0] for row in sheet.rows} == {f"trt.{name}" for name in type(backend.options).model_fields}
    assert all(row[1] and row[2] for row in sheet.rows)
    assert backend_document(backend).value["options"]["max_batch"]["default"] == 32


def test_a_backend_without_options_says_so() -> None:
    document = backend_document(plugins.backend("ort"))
    assert not document.sheets
    assert "has no options" in document.sections[0].text  # type: ignore[union-attr]
