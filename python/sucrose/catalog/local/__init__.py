"""Catalogs in a directory of this machine."""
