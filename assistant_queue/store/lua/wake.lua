-- Event `wake`: look at one overdue thread: book the passing of its window, and see that a wake-up is on its way.
-- KEYS: thread due counters paused scheduled queue queues job
-- ARGV: now thread_id recheck_ms patience_ms search tick function origin stamp job_id
-- Returns {'woken'} a wake-up was handed to the queue   {'waiting'} one is in the queue already   {'early'} it is not overdue   {'idle'}
--         {'paused'} the whole queue is: the passing of time was booked, nobody is woken
-- The one recovery for lost jobs, dead workers, lapsed leases and due retries. Idempotent: it moves the time of the next look.
--! include common wakeup
local score = redis.call('ZSCORE', key.due, arg.thread_id)
if not score then return {'idle'} end
if tonumber(score) > now then return {'early'} end
local t = read_thread()
if not t.state or t.paused then
  redis.call('ZREM', key.due, arg.thread_id)
  if not t.state and t.token and tonumber(t['until']) <= now then redis.call('HDEL', key.thread, 'token', 'until') end
  return {'idle'}
end
if t.state ~= 'active' then
  book(t.pk, 'waiting', t.n)
  redis.call('HSET', key.thread, 'pk', 'waiting')
  if t.bk == 'delayed' then
    book('delayed', 'waiting', t.bn)
    redis.call('HSET', key.thread, 'bk', 'waiting')
  end
end
redis.call('ZADD', key.due, ms(now + tonumber(arg.recheck_ms)), arg.thread_id)
if redis.call('EXISTS', key.paused) == 1 then return {'paused'} end
if t.wake then
  if redis.call('ZREM', key.scheduled, t.wake) == 1 then
    redis.call('RPUSH', key.queue, t.wake)
    redis.call('HSET', key.thread, 'queued', ms(now))
    return {'woken'}
  end
  -- It was handed over before. If it stands in the queue, workers are busy and another would not be faster. The search is
  -- bounded; what is further back than that is believed to be there for a while.
  local found = redis.call('LPOS', key.queue, t.wake, 'MAXLEN', tonumber(arg.search))
  local far = redis.call('LLEN', key.queue) > tonumber(arg.search) and now - tonumber(t.queued or 0) < tonumber(arg.patience_ms)
  if found or far then return {'waiting'} end
end
redis.call('HSET', key.thread, 'wake', enqueue_new(), 'queued', ms(now))
return {'woken'}
