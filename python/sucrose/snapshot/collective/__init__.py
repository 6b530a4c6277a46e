"""Takes on several ranks: what they have to agree on, who writes what, and the one commit of all.

1. **Arguments** (arguments.py): rank 0's path counts, and the globs that all have given.
2. **Replicated values** (replicated_values.py, agreement.py): what all ranks say to have alike is compared; what is not
   alike is saved per rank after all.
3. **Shares** (assignment.py, share.py): every rank computes by itself, and all the same, who writes which replicated
   value, and which of several holders writes a shard. The rest is a rank's own.
4. **Folder** (folder.py): rank 0 makes the hidden directory, once there is room for all; the others join it.
5. **Parts** (parts.py, merging.py): when a rank's files are durable it hands their records and entries to rank 0,
   which puts them together, looks for every file, and commits.
6. **Outcome** (outcome.py): rank 0 tells how it went. A rank that cannot hear it looks for itself.

A rank that fails at any point tells all others, and nobody commits. One rank by itself goes through the same steps,
which are nothing then.
"""
