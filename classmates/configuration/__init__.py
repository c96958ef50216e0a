"""Settings from signatures, YAML files and flags: layered, checked by name, typed."""
