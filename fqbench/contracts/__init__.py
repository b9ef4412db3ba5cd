"""The values that cross the border between the core and its plug-ins; they import nothing above the configuration."""
