"""The core: pure rules - states, windows, batches, retries, the flow. No I/O, no clock."""
