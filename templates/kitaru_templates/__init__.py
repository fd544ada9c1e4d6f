"""What `kitaru init` copies. Each folder here is a template: a project that runs as it is. Data, not code to import."""
