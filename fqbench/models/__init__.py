"""Models: building, training and exporting image classifiers."""
