-- A look at all threads: which are overdue, when the next one is due, and who keeps the time.
-- Needs key.due, key.paused, key.timer, arg.limit, arg.watchman, arg.term_ms and arg.spare_ms.

-- Of all watchmen one keeps the time, or each due thread would wake every process: whoever asks first holds `timer` for term_ms, and
-- longer as long as it asks. The others are told of a thread only when it is overdue by spare_ms, and are the timer's spare.
local function keeps_time()
  local holder = redis.pcall('GET', key.timer) -- what is no string is nobody's, and is overwritten
  if type(holder) == 'string' and holder ~= arg.watchman then return false end
  redis.call('SET', key.timer, arg.watchman, 'PX', arg.term_ms)
  return true
end

-- The header of overdue.lua has the reply.
local function look(keeps, overdue_by, even_paused, word)
  local reply = {string.format('%.3f', now + micros / 1000), '', keeps and 'timer' or '', '', word}
  if not even_paused and redis.call('EXISTS', key.paused) == 1 then return reply end
  local next_due = redis.call('ZRANGEBYSCORE', key.due, '(' .. ms(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if next_due[2] and tonumber(next_due[2]) < 1e15 then reply[2], reply[4] = ms(tonumber(next_due[2])), next_due[1] end
  local overdue = redis.call('ZRANGEBYSCORE', key.due, '-inf', ms(now - overdue_by), 'LIMIT', 0, tonumber(arg.limit))
  for i = 1, #overdue do reply[#reply + 1] = overdue[i] end
  return reply
end
