-- Event `unlock`: the direct call is over; messages that arrived meanwhile get their wake-up here.
-- KEYS: thread due counters over scheduled queue queues job
-- ARGV: now thread_id token over_ms recheck_ms tick function origin stamp job_id
-- Returns {'unlocked'} or {'lost'}: the thread has not changed
-- Either way no copy of the call's `lock` that arrives from now on takes the lease.
--! include common wakeup quiet person
local t = read_thread()
redis.call('SET', key.over, '1', 'PX', arg.over_ms)
if not holds(t) then return {'lost'} end
redis.call('HDEL', key.thread, 'token', 'until')
if t.state and not is_kept_back(t) and is_never(t.due) then
  redis.call('ZADD', key.due, t.due, arg.thread_id)
elseif t.state and not is_kept_back(t) then
  local due = math.max(now, tonumber(t.due))
  redis.call('HSET', key.thread, 'wake', wake_at(t.wake, due))
  redis.call('ZADD', key.due, due <= now and recheck_at() or ms(due), arg.thread_id)
  publish_tick(due)
else
  redis.call('ZREM', key.due, arg.thread_id)
end
return {'unlocked'}
