"""The runtimes that fqbench quantizes for, one module each; found by entry points, never imported by the core."""
