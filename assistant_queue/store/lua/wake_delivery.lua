-- Event `wake`, of a delivery: check a reply that no process of this package delivers: make sure
-- that a wake-up is on its way.
-- KEYS: thread outbox delivering deliveries paused scheduled queue queues job
-- ARGV: now thread_id spare_ms recheck_ms patience_ms search guard_ms function origin stamp job_id
-- Returns {'woken'} a wake-up was enqueued   {'waiting'} one is in the queue already
--         {'early'} it is not overdue   {'idle'}   {'paused'}
--! include common wakeup person outbox delivery_wake
local score = redis.call('ZSCORE', key.deliveries, arg.thread_id)
if not score then return {'idle'} end
if tonumber(score) > now - tonumber(arg.spare_ms) then return {'early'} end
if redis.call('EXISTS', key.outbox) == 0 then
  redis.call('ZREM', key.deliveries, arg.thread_id)
  redis.call('DEL', key.delivering)
  return {'idle'}
end
local t = read_thread()
if holds_replies(t) then
  redis.call('ZREM', key.deliveries, arg.thread_id)
  return {'paused'}
end
if redis.call('EXISTS', key.paused) == 1 then return {'paused'} end
local d = read_delivery()
set_delivery_check(now + tonumber(arg.recheck_ms))
if d.wake and not redis.call('ZSCORE', key.scheduled, d.wake) then
  local found = redis.call('LPOS', key.queue, d.wake, 'MAXLEN', tonumber(arg.search))
  local is_deep = redis.call('LLEN', key.queue) > tonumber(arg.search)
  if found or (is_deep and now - number_of(d.queued) < tonumber(arg.patience_ms)) then
    return {'waiting'}
  end
end
wake_delivery_at(d.wake, now)
return {'woken'}
