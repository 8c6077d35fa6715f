-- Event `retry`, of a delivery: the holder releases the reply, which is due again at a given time.
-- KEYS: thread delivering deliveries metrics scheduled queue queues job
-- ARGV: now thread_id token batch_id wait_ms progress guard guard_ms function origin stamp job_id
--       counts
-- Returns {'ok', ms when it is due} or {'lost'}: nothing has changed
-- A paused thread is not checked.
--! include common wakeup person outbox delivery_wake counts
local d = read_delivery()
-- The same call again: its reply was lost.
if not d.token and d.last == arg.token and d.batch == arg.batch_id then return {'ok', d.due} end
if d.token ~= arg.token or d.batch ~= arg.batch_id then return {'lost'} end
count_step()
local due = now + tonumber(arg.wait_ms)
redis.call('HDEL', key.delivering, 'token', 'until', 'number', 'waits', 'deaths')
redis.call('HSET', key.delivering, 'due', ms(due), 'seen', ms(now), 'last', arg.token,
  'progress', arg.progress)
if arg.guard ~= '' then wake_delivery_at(d.wake, due) end
local t = read_thread()
if holds_replies(t) then
  redis.call('ZREM', key.deliveries, arg.thread_id)
else
  set_delivery_check(due)
end
return {'ok', ms(due)}
