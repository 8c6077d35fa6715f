-- Event `resume`: the thread is looked at again, at its time or at once if that has passed.
-- KEYS: thread due counters over scheduled queue queues job
-- ARGV: now thread_id over_ms recheck_ms guard_ms back_ms tick function origin stamp job_id
-- Returns {'resumed'} or {'idle'}: it was not paused, nothing has changed
-- over: of this very call. A second one changes nothing: the thread may have been paused since.
--! include common wakeup due rewind
if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false then return {'resumed'} end
local t = read_thread()
if not t.paused then return {'idle'} end
redis.call('HDEL', key.thread, 'paused')
if not t.state then return {'resumed'} end
rewound(t) -- no watchman moves the times of a paused thread
local due = math.max(now, tonumber(t['until'] or t.due))
if due <= now then book_due(t) end -- nothing looked at it while it was paused
redis.call('HSET', key.thread, 'wake', wake_at(t.wake, due))
redis.call('ZADD', key.due, due <= now and look_again() or ms(due), arg.thread_id)
tell_timers(due)
return {'resumed'}
