"""Checkpoints of every kind: what is in them, how two of them differ, and from one kind to another.

1. `kinds` tells a snapshot, a safetensors file, a file of `torch.save` and a folder of
   `torch.distributed.checkpoint` apart, by their contents.
2. `sources` opens one; each kind has a file that reads it. Tensors stay in the file until they are asked for.
3. `conversion` hands what a source has to the file that writes the target's kind, and says what that cannot hold.
4. `differences`, `tensor_summary` and `export` look at values; `listing` and `verification` need no torch.
"""
