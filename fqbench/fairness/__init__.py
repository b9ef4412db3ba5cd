"""Fairness statistics: counts in, figures with error bars out."""
