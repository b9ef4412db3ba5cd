"""Studies: a grid of experiments, made cell by cell from ordinary stages, and one table of all their figures."""
