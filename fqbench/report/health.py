"""What this machine can run, as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fqbench.machine import IntegerSums
from fqbench.report.document import Document, Sheet, notes

if TYPE_CHECKING:
    from fqbench.doctor import Health
    from fqbench.plugins import Backend


SUMS = {
    IntegerSums.EXACT: "exact (32 bits)",
    IntegerSums.SATURATING: "saturating (16 bits, no VNNI): INT8 answers differ from those of other CPUs; quantize "
    "with --reduce-range",
    IntegerSums.UNKNOWN: "unknown: the features of this CPU cannot be read",
}


def health_document(health: Health) -> Document:
    """Return what runs on this machine, what is missing and how to get it."""
    machine = health.machine
    features = ", ".join(machine.features) or "none of those that speed up INT8"
    about = notes(
        f"machine: {machine.cpu}, {machine.cores} cores, {machine.memory / 2**30:.0f} GiB, {machine.system}",
        f"CPU features: {features}",
        f"sums of 8-bit products: {SUMS[machine.integer_sums]}",
        f"workspace: {health.workspace}",
    )
    plugins = Sheet(
        "plug-ins",
        ("name", "kind", "from", "state", "next step"),
        tuple((one.name, one.kind, one.origin, one.state, one.remedy) for one in health.plugins),
    )
    libraries = Sheet(
        "libraries",
        ("library", "version", "extra", "next step"),
        tuple((one.name, one.version or "missing", one.extra, one.remedy) for one in health.libraries),
    )
    return Document((*about, plugins, libraries), health.to_dict())


def backend_document(backend: Backend) -> Document:
    """Return the options of one backend, as ``--backend-option`` takes them."""
    fields = type(backend.options).model_fields
    rows = tuple(
        (f"{backend.name}.{name}", "none" if info.default is None else str(info.default), info.description or "")
        for name, info in fields.items()
    )
    how = f"Set one with --backend-option {rows[0][0]}=VALUE." if rows else f"{backend.name} has no options of its own."
    value = {"name": backend.name, "options": type(backend.options).model_json_schema().get("properties", {})}
    sheet = (Sheet("options", ("option", "default", "sets"), rows, notes(how)),) if rows else notes(how)
    return Document(sheet, value)
