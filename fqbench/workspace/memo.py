"""A cache of small facts that take seconds to compute, in the workspace, keyed by everything they depend on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fqbench.storage import text_digest, write_whole

FOLDER = ".memo"


def remembered(root: Path, question: Mapping[str, Any], answer: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return a cached value, computing it only if the workspace does not have it yet.

    Parameters
    ----------
    root : Path
        The workspace.
    question : mapping
        JSON values: what is asked, and everything that the answer depends on (versions of libraries among it).
    answer : callable
        Works it out, as JSON values.
    """
    asked = json.loads(json.dumps(question, sort_keys=True))
    place = root / FOLDER / f"{text_digest(json.dumps(asked, sort_keys=True))[:20]}.json"
    try:
        kept = json.loads(place.read_bytes())
        if kept["question"] == asked and kept["digest"] == text_digest(json.dumps(kept["answer"], sort_keys=True)):
            return dict(kept["answer"])
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: worked out again
        pass
    found = json.loads(json.dumps(answer()))
    kept = {"question": asked, "answer": found, "digest": text_digest(json.dumps(found, sort_keys=True))}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, json.dumps(kept, indent=1) + "\n")
    except OSError:  # a workspace that can only be read: worked out each time
        pass
    return dict(found)
