"""The workers: what takes wake-ups from RQ and carries a batch through."""
