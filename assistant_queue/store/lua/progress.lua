-- Event `progress`: the batch got further. Written before a request leaves and as soon as an id is known.
-- KEYS: thread *messages
-- ARGV: now token phase progress batch_id
-- Returns {'ok'} or {'lost'}: nothing has changed
-- The messages given are marked as being in this batch.
--! include common
local t = read_thread()
if not holds(t) then return {'lost'} end
if t.phase ~= arg.phase or t.progress ~= arg.progress then redis.call('HSET', key.thread, 'deaths', '0') end
redis.call('HSET', key.thread, 'phase', arg.phase, 'progress', arg.progress)
for i = 1, rest_count do redis.call('HSET', rest_key(i), 'batch', arg.batch_id) end
return {'ok'}
