"""Listening: one reader a process, however many listen."""
