"""What this machine can run, as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fqbench.report.document import Document, Sheet, notes

if TYPE_CHECKING:
    from fqbench.doctor import Health


def health_document(health: Health) -> Document:
    """Return what runs on this machine, what is missing and how to get it."""
    machine = health.machine
    features = ", ".join(machine.features) or "none of those that speed up INT8"
    about = notes(
        f"machine: {machine.cpu}, {machine.cores} cores, {machine.memory / 2**30:.0f} GiB, {machine.system}",
        f"CPU features: {features}",
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
