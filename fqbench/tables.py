"""How entries, manifests and the state of the machine are printed for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.terminal import print_json, stdout

if TYPE_CHECKING:
    from rich.table import Table

    from fqbench.data.inspect import Inspection
    from fqbench.data.samples import Samples
    from fqbench.doctor import Health
    from fqbench.models.profile import ListedModel, Profile
    from fqbench.workspace import Entry
    from fqbench.workspace.upkeep import Garbage, Verification


def print_entry(entry: Entry, *, as_json: bool) -> None:
    """Print what a stage made: its id and where it lies."""
    if as_json:
        print_json(
            {"id": entry.id, "kind": entry.manifest.kind, "path": str(entry.path), "facts": entry.manifest.facts}
        )
        return
    stdout().print(f"{entry.manifest.kind}/{entry.id}", style="bold", highlight=False)
    stdout().print(f"  {entry.path}", highlight=False, soft_wrap=True)
    for name, value in entry.manifest.facts.items():
        if isinstance(value, (str, int, float)) and value != "":
            stdout().print(f"  {name}: {value}", highlight=False, markup=False)


def print_entries(entries: Sequence[Entry], *, as_json: bool) -> None:
    """Print a table of entries: id, kind, when, seconds, bytes."""
    if as_json:
        print_json([entry.manifest.model_dump(mode="json", exclude={"files", "config"}) for entry in entries])
        return
    if not entries:
        stdout().print("nothing here yet; `fqbench quantize` makes everything up to an artifact.")
        return
    table = make_table("kind", "id", "created (UTC)", ">seconds", ">MB")
    for entry in entries:
        size = sum(record.size for record in entry.manifest.files.values())
        created = entry.manifest.created[:19].replace("T", " ")
        table.add_row(entry.manifest.kind, entry.id, created, f"{entry.manifest.seconds:.1f}", f"{size / 1e6:.1f}")
    stdout().print(table)


def print_manifest(entry: Entry, *, as_json: bool) -> None:
    """Print one entry's manifest; long lists of files are shortened for people."""
    manifest = entry.manifest
    if as_json:
        print_json({**manifest.model_dump(mode="json"), "path": str(entry.path)})
        return
    out = stdout()
    out.print(f"{manifest.kind}/{manifest.id}", style="bold", highlight=False)
    out.print(f"  path: {entry.path}", highlight=False, soft_wrap=True)
    out.print(
        f"  made: {manifest.created} in {manifest.seconds:.1f} s by: {manifest.command}",
        highlight=False,
        soft_wrap=True,
    )
    out.print(f"  digest: {manifest.digest}", highlight=False)
    sections: dict[str, dict[str, Any]] = {
        "inputs": manifest.inputs,
        "determined by": manifest.determined_by,
        "facts": manifest.facts,
        "versions": manifest.versions,
        "files": {name: f"{record.size} bytes, sha256 {record.sha256[:16]}" for name, record in manifest.files.items()},
    }
    for title, values in sections.items():
        if not values:
            continue
        out.print(f"{title}:", style="bold", highlight=False)
        for name, value in list(values.items())[:20]:
            out.print(f"  {name}: {_short(value)}", highlight=False, markup=False, soft_wrap=True)
        if len(values) > 20:
            out.print(f"  ... and {len(values) - 20} more (--json shows all)", highlight=False)


def print_verification(found: Verification, *, as_json: bool) -> None:
    """Print how much was checked, and every damage with what to do."""
    if as_json:
        print_json(found.to_dict())
        return
    out = stdout()
    for damage in found.damages:
        out.print(f"{damage.kind}/{damage.id}: {damage.problem}", style="bold red", markup=False, soft_wrap=True)
        out.print(f"  {damage.remedy}", highlight=False, markup=False, soft_wrap=True)
    for name in found.outdated:
        out.print(f"{name}: written by another version of fqbench; not checked", highlight=False, soft_wrap=True)
    state = f"{len(found.damages)} damaged" if found.damages else "all as they were written"
    checked = f"{found.files} files ({found.bytes / 1e6:.1f} MB) of {found.entries} entries"
    out.print(f"checked {checked}: {state}", highlight=False)


def print_garbage(garbage: Sequence[Garbage], *, deleted: bool, as_json: bool) -> None:
    """Print what nothing refers to, and whether it was deleted."""
    if as_json:
        print_json({"deleted": deleted, "garbage": [one.to_dict() for one in garbage]})
        return
    out = stdout()
    for one in garbage:
        out.print(f"{one.path}: {one.reason}", highlight=False, markup=False, soft_wrap=True)
    size = f"{len(garbage)} file(s) or folder(s), {sum(one.bytes for one in garbage) / 1e6:.1f} MB"
    if not garbage:
        out.print("nothing to delete")
    else:
        out.print(f"deleted {size}" if deleted else f"{size}; nothing was deleted: run again with --delete")


def print_health(health: Health, *, as_json: bool) -> None:
    """Print what runs on this machine, what is missing and how to get it."""
    from rich.markup import escape  # `fqbench[trt]` is no style

    if as_json:
        print_json(health.to_dict())
        return
    out, machine = stdout(), health.machine
    features = ", ".join(machine.features) or "none of those that INT8 depends on"
    out.print(
        f"machine: {machine.cpu}, {machine.cores} cores, {machine.memory / 2**30:.0f} GiB, {machine.system}",
        highlight=False,
    )
    out.print(f"CPU features: {features}", highlight=False)
    out.print(f"workspace: {health.workspace}", highlight=False, soft_wrap=True)
    table = make_table("plug-in", "name", "from", "state", "next step")
    for plugin in health.plugins:
        table.add_row(*map(escape, (plugin.kind, plugin.name, plugin.origin, plugin.state, plugin.remedy)))
    out.print(table)
    libraries = make_table("library", "version", "for", "next step")
    for library in health.libraries:
        libraries.add_row(*map(escape, (library.name, library.version or "missing", library.extra, library.remedy)))
    out.print(libraries)


def print_preview(rows: Sequence[tuple[str, int]], out: Path, samples: Samples) -> None:
    """Print which groups a contact sheet shows, and where it is."""
    table = make_table("group", ">images")
    for group, count in rows:
        table.add_row(group, str(count))
    stdout().print(table)
    stdout().print(f"wrote {out}", highlight=False, soft_wrap=True)
    if samples.notice:
        stdout().print(samples.notice, style="italic", highlight=False)


def print_inspection(inspection: Inspection, *, as_json: bool) -> None:
    """Print what a data set holds: images a split and class, every group smallest first, and problems."""
    if as_json:
        print_json(inspection.to_dict())
        return
    out = stdout()
    if inspection.notice:
        out.print(inspection.notice, style="italic", highlight=False)
    out.print(f"{inspection.data}: {inspection.images} images", style="bold", highlight=False)
    splits = make_table("class", *(f">{split}" for split in inspection.splits))
    for label in next(iter(inspection.labels.values())):
        splits.add_row(label, *(str(inspection.labels[split][label]) for split in inspection.splits))
    splits.add_row("all", *(str(count) for count in inspection.splits.values()), style="bold")
    out.print(splits)
    classes = list(next(iter(inspection.labels.values())))
    groups = make_table(
        " × ".join(inspection.by) or "group",
        ">images",
        ">share",
        *(f">{split}" for split in inspection.splits),
        *(f">{label}" for label in classes),
    )
    for group in inspection.groups:
        counts = (*group.splits.values(), *group.labels.values())
        groups.add_row(group.group, str(group.images), f"{group.share:.1%}", *(str(count) for count in counts))
    out.print(groups)
    out.print(
        f"largest over smallest: class {inspection.class_imbalance:.1f}x, group {inspection.group_imbalance:.1f}x; "
        f"smallest group(s): {', '.join(group.group for group in inspection.smallest_groups)}",
        highlight=False,
        markup=False,
    )
    for problem in inspection.problems:
        names = ", ".join(problem.first) + (", ..." if problem.count > len(problem.first) else "")
        out.print(f"problem: {problem.count} {problem.what}: {names}", highlight=False, markup=False, soft_wrap=True)
    if not inspection.problems:
        out.print("no problems found", highlight=False)


def print_models(models: Sequence[ListedModel], *, as_json: bool) -> None:
    """Print names of classifiers and where they come from."""
    if as_json:
        print_json([asdict(model) for model in models])
        return
    table = make_table("name", "library", "its name there", ">input")
    for model in models:
        table.add_row(model.name, model.library, model.entry, str(model.size or ""))
    stdout().print(table)
    if all(model.study for model in models):
        stdout().print("Any other classifier of timm or torchvision works, too: fqbench models list PATTERN")


def print_profile(profile: Profile, *, as_json: bool) -> None:
    """Print what a classifier costs."""
    if as_json:
        print_json(profile.to_dict())
        return
    out = stdout()
    out.print(
        f"{profile.name} ({profile.library}/{profile.entry}), one {profile.size}x{profile.size} image", style="bold"
    )
    table = make_table("what", ">figure")
    table.add_row("parameters", f"{profile.parameters:,}")
    table.add_row("weights, FP32", f"{profile.weight_bytes / 1e6:.1f} MB")
    table.add_row("FLOPs (2 a multiply-accumulate)", f"{profile.flops / 1e9:.3f} G")
    table.add_row("activations, all layers", f"{profile.activation_bytes / 1e6:.1f} MB")
    table.add_row("activations, largest layer", f"{profile.largest_layer_bytes / 1e6:.1f} MB")
    table.add_row("classifier head", profile.head)
    out.print(table)
    operators = ", ".join(f"{name} {count}" for name, count in profile.operators.items())
    out.print(f"ONNX operators: {operators}", highlight=False, soft_wrap=True)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."


def make_table(*columns: str) -> Table:
    """Return an empty table; a column whose name begins with ``>`` is aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left", overflow="fold"
        )
    return table
