"""The command `sucrose`: for people and scripts, without torch where it is not needed."""
