"""Snapshots that refer to others: what has not changed since them is not written again.

1. A take with a base has the fingerprints of the state computed, piece by piece (pieces.py, taken_fingerprints.py).
2. They are compared with those of the base; what is equal is referred to where its bytes lie, however old that
   snapshot is, and the rest is planned as ever (changes.py, planning.py).
3. The index names the snapshots that are referred to, with digests of their metadata, which whoever reads looks at
   first (bases.py). Each of them gets a note of who depends on it (dependents.py).
"""
