"""How results are shown: documents of sheets and notes as data, and a renderer per format."""
