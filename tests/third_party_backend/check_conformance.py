"""The package's own test, run where it is installed: it is found by its entry point and passes fqbench's suite."""

from __future__ import annotations

from fqbench import plugins
from fqbench.plugins import Backend
from fqbench.testing.backend_suite import BackendSuite


class TestNumpyReference(BackendSuite):
    def backend(self) -> Backend:
        return plugins.backend("numpy_reference")


def test_it_is_declared_by_its_own_distribution() -> None:
    claims = plugins.installed(plugins.BACKENDS)["numpy_reference"]
    assert [claim.origin for claim in claims] == ["fqbench-numpy-reference"]
