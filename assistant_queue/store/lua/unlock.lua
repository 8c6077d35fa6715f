-- Event `unlock`: the direct call is over; messages that came meanwhile get their wake-up here.
-- KEYS: thread due counters scheduled queue queues job
-- ARGV: now thread_id token recheck_ms tick function origin stamp job_id
-- Returns {'unlocked'} or {'lost'}: nothing has changed
--! include common wakeup
local t = read_thread()
if not holds(t) then return {'lost'} end
redis.call('HDEL', key.thread, 'token', 'until')
if t.state and not t.paused then
  local due = math.max(now, tonumber(t.due))
  redis.call('HSET', key.thread, 'wake', wake_at(t.wake, due))
  redis.call('ZADD', key.due, due <= now and look_again() or ms(due), arg.thread_id)
  tell_timers(due)
elseif not t.state then
  redis.call('ZREM', key.due, arg.thread_id)
end
return {'unlocked'}
