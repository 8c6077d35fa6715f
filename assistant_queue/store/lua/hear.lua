-- Read, and note: a webhook says that a run has ended.
-- KEYS: runs early webhook
-- ARGV: run_id early_ms
-- Returns {'waits', thread id}: a batch is parked for it; nothing has changed
--         {'before'}: this webhook woke a batch already; nothing has changed
--         {'noted'}: no batch is parked for it (yet): the worker that is about to park one finds it
if redis.call('EXISTS', key.webhook) == 1 then return {'before'} end
local thread = redis.call('HGET', key.runs, arg.run_id)
if thread then return {'waits', thread} end
redis.call('SET', key.early, '1', 'PX', arg.early_ms)
return {'noted'}
