"""Experiments with a home: configuration, epochs, checkpoints and logs of a scenario."""
