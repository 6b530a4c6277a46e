"""Catalogs in an object store, which knows neither renames nor locks.

```
root/
  step_<step>-<8 hex>/              a generation, if it has a commit record
    .snapshot_metadata              the commit record
    .removed                        a collection is about to remove this; it counts where there is no commit record
    .snapshot_metadata.quarantined  the commit record of a generation that was found broken
    .reason                         and why
  .pins/                            markers, as on disks
```

A folder without a commit record is being uploaded, or was when its writer died; or it is what is left of a generation
that a collection removes, whose commit record goes before everything else; or it is in quarantine.
"""
