"""Between the engine's relays and object stores: who carries the bytes."""
