"""The store: Redis keys, Lua scripts, and the operations made of them."""
