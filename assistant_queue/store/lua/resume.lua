-- Event `resume`: the thread is checked again, at its due time or at once if that has passed.
-- KEYS: thread due counters over scheduled queue queues job outbox deliveries
-- ARGV: now thread_id over_ms recheck_ms guard_ms back_ms tick function origin stamp job_id
-- Returns {'resumed'} or {'idle'}: it was not paused, nothing has changed
-- over: of this very call. A second one changes nothing: the thread may have been paused since.
--! include common wakeup due quiet rewind
if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false then return {'resumed'} end
local t = read_thread()
if not t.paused then return {'idle'} end
redis.call('HDEL', key.thread, 'paused')
if redis.call('EXISTS', key.outbox) == 1 then
  redis.call('ZADD', key.deliveries, 'NX', ms(now), arg.thread_id)
end
if not t.state then return {'resumed'} end
rewound(t) -- no scheduler moves the times of a paused thread
local due = math.max(now, tonumber(t['until'] or t.due))
if is_never(due) then
  redis.call('ZADD', key.due, ms(due), arg.thread_id)
  return {'resumed'}
end
if due <= now then book_due(t) end -- a paused thread is not checked
redis.call('HSET', key.thread, 'wake', wake_at(t.wake, due))
redis.call('ZADD', key.due, due <= now and recheck_at() or ms(due), arg.thread_id)
publish_tick(due)
return {'resumed'}
