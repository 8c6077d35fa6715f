"""Transport of operations to Redis: blocking and asyncio clients, pipelines, and connections."""
