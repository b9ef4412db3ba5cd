"""How results are shown to people: sheets, and the formats they are written in."""
