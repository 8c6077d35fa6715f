"""The store: Redis keys, Lua scripts, and the operations that use them."""
