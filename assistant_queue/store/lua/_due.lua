-- The due time of a thread has passed: count its delayed messages as waiting. Idempotent.
-- Needs key.thread and key.counters.

local function book_due(t)
  if t.state == 'active' then return end
  book(t.pk, 'waiting', t.n)
  redis.call('HSET', key.thread, 'pk', 'waiting')
  if t.bk == 'delayed' then
    book('delayed', 'waiting', t.bn)
    redis.call('HSET', key.thread, 'bk', 'waiting')
  end
end
