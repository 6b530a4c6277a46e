"""Kills a program at random times, again and again: what it finds at its next start is a state that it really had."""
