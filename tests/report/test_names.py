"""Artifacts in a document: short names, never one for two, and remarks said once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fqbench.report.document import Note
from fqbench.report.names import legend, said_once, short_ids, short_names

LABELS = ("ort fp32", "ort int8/balanced", "ort int8/balanced", "ort int8/random")
IDS = (
    "m-ort-fp32-8e649e6859",
    "m-ort-int8-balanced-15d5792251",
    "m-ort-int8-balanced-15df7922aa",
    "m-ort-int8-random-49aad66041",
)


def test_a_shared_backend_is_left_out_and_colliding_labels_get_a_short_id() -> None:
    assert short_names(LABELS, IDS) == ("fp32", "int8/balanced #15d5", "int8/balanced #15df", "int8/random")
    assert short_names(("ort fp32", "trt int8/random (emulated)"), IDS[:2]) == (
        "ort fp32",
        "trt int8/random (emulated)",
    )
    assert short_names(("ort fp32",), IDS[:1]) == ("ort fp32",)
    assert short_names(("phone", "tablet"), ("", "")) == ("phone", "tablet")


def test_short_ids_are_as_long_as_tells_them_apart() -> None:
    assert short_ids(("a-12345678", "a-1234ffff")) == ("12345", "1234f")
    assert short_ids(("a-12345678", "b-99999999")) == ("1234", "9999")
    assert short_ids(("a-12345678", "a-12345678")) == ("1234", "1234")
    assert short_ids(("a-12345678", "b-12345678")) == ("a-12345678", "b-12345678")
    assert short_ids(()) == ()


hashes = st.text("0123456789abcdef", min_size=10, max_size=10)


@given(
    st.lists(
        st.tuples(st.sampled_from(["ort", "trt"]), st.sampled_from(["int8", "int4 x"]), hashes),
        min_size=1,
        max_size=8,
        unique=True,
    )
)
def test_two_artifacts_never_share_a_name(drawn: list[tuple[str, str, str]]) -> None:
    labels = [f"{backend} {scheme}" for backend, scheme, _hash in drawn]
    ids = [f"model-{backend}-{scheme[:4]}-{digest}" for backend, scheme, digest in drawn]
    assert len(set(short_names(labels, ids))) == len(set(ids))


def test_the_legend_has_every_id() -> None:
    sheet = legend(short_names(LABELS, IDS), IDS, {"runtime": ["ort 1.0"] * 4})
    assert sheet.columns == ("artifact", "id", "runtime")
    assert [row[1] for row in sheet.rows] == list(IDS)


def test_the_same_remark_about_six_artifacts_is_one_line() -> None:
    everyone = list("abcdef")
    assert said_once([(name, "few images.") for name in everyone], everyone) == (Note("few images.", warning=True),)
    assert said_once([("a", "noisy."), ("b", "few."), ("c", "noisy."), ("a", "noisy.")], everyone) == (
        Note("a, c: noisy.", warning=True),
        Note("b: few.", warning=True),
    )
