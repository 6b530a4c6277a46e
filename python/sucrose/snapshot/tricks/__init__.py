"""Adapters: statefuls that wrap others, for states that depend on how training is distributed."""
