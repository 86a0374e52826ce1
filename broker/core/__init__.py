"""Who gets it: synchronous, time passed in, no I/O."""
