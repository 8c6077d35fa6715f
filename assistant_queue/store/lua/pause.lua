-- Event `pause`: the thread takes messages, nothing of it is claimed. A batch that a worker holds goes on to its end.
-- KEYS: thread due
-- ARGV: now thread_id
-- Returns {'paused'}
--! include common
local t = read_thread()
redis.call('HSET', key.thread, 'paused', '1')
if t.state and t.state ~= 'active' then redis.call('ZREM', key.due, arg.thread_id) end
return {'paused'}
