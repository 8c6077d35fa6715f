-- Scan all threads: the overdue ones, the next due time, and whether the caller is the leader.
-- Needs key.due, key.stopping, key.paused, key.leader, arg.limit, arg.scheduler, arg.term_ms and
-- arg.spare_ms.

-- One scheduler per queue is the leader, or each due thread would wake every process. The first one
-- that asks holds `leader` for term_ms and extends its term with each request. Followers get threads
-- that are overdue by spare_ms, as the leader's backup.
local function is_leader()
  local holder = redis.pcall('GET', key.leader) -- a value of another type is overwritten
  if type(holder) == 'string' and holder ~= arg.scheduler then return false end
  redis.call('SET', key.leader, arg.scheduler, 'PX', arg.term_ms)
  return true
end

-- A paused queue has the threads with a batch that is to be stopped, and no others.
local function listed(is_kept, from, to, ...)
  if is_kept then return redis.call('ZRANGEBYSCORE', key.stopping, from, to, ...) end
  return redis.call('ZRANGEBYSCORE', key.due, from, to, ...)
end

-- The header of overdue.lua specifies the reply.
local function look(leads, overdue_by, even_paused, word)
  local reply = {string.format('%.3f', now + micros / 1000), '', leads and 'leader' or '', '', word}
  local is_kept = not even_paused and redis.call('EXISTS', key.paused) == 1
  local next_due = listed(is_kept, '(' .. ms(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  -- Later than any clock: of threads in which no message wants a reply.
  if next_due[2] and tonumber(next_due[2]) < 2e14 then
    reply[2], reply[4] = ms(tonumber(next_due[2])), next_due[1]
  end
  local overdue = listed(is_kept, '-inf', ms(now - overdue_by), 'LIMIT', 0, tonumber(arg.limit))
  for i = 1, #overdue do reply[#reply + 1] = overdue[i] end
  return reply
end
