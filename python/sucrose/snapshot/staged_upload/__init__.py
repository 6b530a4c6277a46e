"""Takes to object stores by way of a local disk, the staging tier, from where they are uploaded in the background.

1. A take goes to a folder of its own below the staging folder, as on any disk, laid out as it will be in the store.
   Its commit there is that of the take (`place`). With it appears a note of where it belongs (`note`).
2. One thread for each staging folder uploads what is staged, in the order of the takes (`upload_queue`, `carrying`):
   what is not in the store yet (`sending`), and the commit record last.
3. The note then says so, and the staged copy is removed.

Whoever dies leaves the staged copies. The next take with the folder finds them, and so does `resume_uploads`.
"""
