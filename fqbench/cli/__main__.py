"""``python -m fqbench.cli`` is the command line."""

from fqbench.cli import main

main()
