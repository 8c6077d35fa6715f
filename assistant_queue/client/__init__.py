"""Classes and functions that an application holds: both queue classes and what they share."""
