"""State managers: the state of a program is saved when it ends, and is there again at its next start."""
