"""The language: frames, codecs and framings. No I/O, no clock, no logging."""
