-- Events `retry` and `hold`: the holder releases the thread, and the same batch is due again at a
-- given time.
-- KEYS: thread due stopping counters metrics scheduled queue queues job events feed
-- ARGV: now thread_id token seen state wait_ms phase progress recheck_ms tick function origin stamp
--       job_id events counts
-- Returns {'ok', ms when it is due} or {'lost'}: nothing has changed
-- state is retrying (a back-off: the messages count as delayed) or held (the grace period of an
-- ambiguous request: they count as active). A batch that is to be stopped, which the caller does not
-- know, is due at once.
--! include common wakeup events wish person counts
local t = read_thread()
-- The same call again: its reply was lost.
if not t.token and t.last == arg.token then return {'ok', t.due} end
if not holds(t) then return {'lost'} end
count_step()
local due = now + tonumber(arg.wait_ms)
if is_stopped_unseen(t) then due = now end
if arg.state == 'retrying' then
  local kind = due <= now and 'waiting' or 'delayed'
  book(t.pk, kind, t.n)
  redis.call('HSET', key.thread, 'pk', kind)
  if t.bk ~= '' then
    book(t.bk, kind, t.bn)
    redis.call('HSET', key.thread, 'bk', kind)
  end
end
redis.call('HDEL', key.thread, 'token', 'until', 'number', 'piece')
redis.call('HSET', key.thread, 'state', arg.state, 'due', ms(due), 'phase', arg.phase,
  'progress', arg.progress, 'last', arg.token, 'deaths', '0', 'since', ms(now))
if is_kept_back(t) and wish_of(t) ~= 'stop' then
  redis.call('ZREM', key.due, arg.thread_id)
else
  redis.call('HSET', key.thread, 'wake', wake_at(t.wake, due))
  redis.call('ZADD', key.due, due <= now and recheck_at() or ms(due), arg.thread_id)
  redis.call('ZADD', key.stopping, 'XX', due <= now and recheck_at() or ms(due), arg.thread_id)
  publish_tick(due)
end
if arg.state == 'retrying' and arg.phase ~= 'delivering' and is_watched() then
  local progress = cjson.decode(arg.progress)
  local attempt, retry_at = progress.attempts or 0, ms(due)
  publish('attempt_failed', cjson.encode(
    {batch_id = t.batch, attempt = attempt, error = progress.error, retry_at = retry_at}))
end
return {'ok', ms(due)}
