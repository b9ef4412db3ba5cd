"""The stages of DESIGN §3, one module each: values in, a finished entry of the workspace out."""
