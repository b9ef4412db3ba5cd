"""Values passed between the core and its plug-ins; they import nothing above the configuration."""
