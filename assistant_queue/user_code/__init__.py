"""Calls of user functions: bounded, contained, and counted when abandoned."""
