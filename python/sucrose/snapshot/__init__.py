"""Application state to storage and back: `Snapshot`, and the single-file `save` and `load`."""
