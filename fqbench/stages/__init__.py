"""The way of the data (docs/design.md, section 3), one module per stage: values in, an entry of the workspace out."""
