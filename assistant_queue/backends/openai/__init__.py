"""Modules that the OpenAI protocols share: HTTP streams, errors, remedies, and parsing."""
