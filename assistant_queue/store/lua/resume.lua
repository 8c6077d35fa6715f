-- Event `resume`: the thread is checked again, at its due time or at once if that has passed.
-- KEYS: thread due pausing counters over scheduled queue queues job outbox deliveries
-- ARGV: now thread_id over_ms recheck_ms guard_ms back_ms tick function origin stamp job_id
-- Returns {'resumed'} or {'idle'}: it was not paused, nothing has changed
-- over: of this very call. A second one changes nothing: the thread may have been paused since.
-- A thread that a person answers stays theirs.
--! include common wakeup due quiet rewind person check_again
if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false then return {'resumed'} end
local t = read_thread()
if is_taken_over(t) and t.paused ~= '2' then
  redis.call('HSET', key.thread, 'paused', '2')
  return {'resumed'}
end
if not t.paused or is_taken_over(t) then return {'idle'} end
redis.call('HDEL', key.thread, 'paused')
redis.call('ZREM', key.pausing, arg.thread_id)
check_again(t)
return {'resumed'}
