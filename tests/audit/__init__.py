"""Tests of the audit: its spool in Redis, and its tables in real databases."""
