-- Event `pause`: the thread accepts messages, and is not claimed. A batch that a worker holds runs
-- to its end, and one that is to be stopped is stopped. A takeover lasts.
-- KEYS: thread due pausing over
-- ARGV: now thread_id over_ms
-- Returns {'paused'}
-- over: of this very call. A second one changes nothing: the thread may have been resumed since.
--! include common wish person
if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false then return {'paused'} end
local t = read_thread()
list_pause(t)
redis.call('HSET', key.thread, 'paused', '1')
t.paused = '1'
if t.state and t.state ~= 'active' and wish_of(t) ~= 'stop' and is_kept_back(t) then
  redis.call('ZREM', key.due, arg.thread_id)
end
return {'paused'}
