"""Bytes on disk: how they are laid out and how they are read back. No torch, no files."""
