"""State managers on several ranks: every rank has its own states, in one generation.

1. **Who** (job.py): the ranks of the default process group, from the first use of a group that has several until the
   end of the process. The program may destroy the group meanwhile: all goes through its store, nothing through it.
2. **Kinds** (occasion.py): saves by call, saves in the background, and last saves before the end are numbered apart,
   so that no rank mixes one up with another. A save of a kind on one rank belongs to the one of the same number on
   the others.
3. **Round** (rounds.py): a rank that has its states in hand arrives. Where all have arrived the round is on; a rank
   that waits in vain, or cannot save, calls it off. One of the two is said first, and counts for all. Nobody waits
   with a lock held that another thread of its process may need to arrive.
4. **Content** (equal_states.py): states that are the same on all ranks are found by digests, and saved once.
5. **Commit**: the save itself is a collective one of the catalog, of all ranks or none.
6. **Calls** (attendant.py): a thread of each rank hears when another rank has begun a save in the background, or was
   told to end while this one is held up in a call outside of Python, and takes part for it.
7. **Agreed calls** (agreed_calls.py): programs that ask `should_stop()` stop, and save in the background, at the same
   call on all ranks.
8. **Looking up** (looking_up.py): the rank that is first to ask for saved states chooses the generation for all.
"""
