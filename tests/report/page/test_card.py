"""Model cards: metadata that Hugging Face's library reads back, results per group, limits that follow from figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("huggingface_hub", reason="needs the extra report")

from huggingface_hub import ModelCard

from fqbench.report.page import Material
from fqbench.report.page.card import limits, model_card
from fqbench.report.page.material import ReportedArtifact


@pytest.fixture(scope="module")
def subjects(material: Material) -> tuple[ReportedArtifact, ...]:
    return tuple(subject for subject, _change in material.views[0].compared)


def test_metadata_can_be_read_back(material: Material, subjects: tuple[ReportedArtifact, ...]) -> None:
    for subject in subjects:
        card = ModelCard(model_card(material, subject.figures.id), ignore_metadata_errors=False)
        assert card.data.pipeline_tag == "image-classification"
        results = {result.metric_name: result for result in card.data.eval_results}
        report = subject.figures.report
        assert results["accuracy"].metric_value == pytest.approx(report.overall.accuracy.value, abs=1e-6)
        for row in report.groups:
            found = results[f"accuracy of {row.group}"]
            assert found.metric_value == pytest.approx(row.accuracy.value, abs=1e-6)
            assert found.metric_args == {"group": row.group}


def test_groups_quantization_and_origin_are_stated(material: Material, subjects: tuple[ReportedArtifact, ...]) -> None:
    text = model_card(material, subjects[0].figures.id)
    _metadata, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert "| &lt;script>boom()&lt;/script>×a\\|b_$1 |" in body
    assert "<script>" not in body
    assert "| range rule | minmax |" in body
    for identity in subjects[0].sources:
        assert identity in body
    assert subjects[1].figures.id not in body  # another artifact's card


def test_limits_follow_from_the_figures(material: Material, subjects: tuple[ReportedArtifact, ...]) -> None:
    view = material.views[0]
    native, simulated = (list(limits(material, [(view, one)])) for one in subjects)
    assert not any("simulated" in sentence for sentence in native)
    assert any("answers were simulated" in sentence for sentence in simulated)
    assert any("tone, age" in sentence for sentence in native)
    assert any("Fewer than 30 images" in sentence for sentence in native)
    assert any("neither shown nor excluded for" in sentence for sentence in native)  # few images decide nothing
    untimed = replace(subjects[0], latency=None)
    assert not any("latency holds" in sentence for sentence in limits(material, [(view, untimed)]))


def test_simulated_has_no_speed(material: Material, subjects: tuple[ReportedArtifact, ...]) -> None:
    text = model_card(material, subjects[1].figures.id)
    assert "there is no speed to report" in text
    assert "ms [" not in text
