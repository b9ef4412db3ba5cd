"""Data sets: the table of samples, decoding and the prepared store, and one reader per data set."""
