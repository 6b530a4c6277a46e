"""Resumes training scripts that know nothing of checkpoints.

Either ``LATTICE_AUTOPATCH=torch python train.py``, or ``python -m sucrose.autopatch train.py``. The
script's modules, optimizers, learning-rate schedulers, gradient scalers, random numbers and places in
its loaders are one state of its `StateManagerGroup`, saved when that saves. `docs/autopatch.md` tells
what a script has to be like.

Read in this order: `patches` (what torch tells us), `tracker` (what becomes of it), `timeline` (where
the program is), `position` (how that is written down), `resumption` and `replay` (how a new run gets
there).
"""
