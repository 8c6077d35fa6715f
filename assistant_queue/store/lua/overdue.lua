-- Read: the threads at which somebody should have looked by now, longest overdue first, and when the next one is due.
-- KEYS: due paused timer
-- ARGV: now limit even_paused watchman term_ms spare_ms
-- Returns {now, ms of the earliest thread that is not overdue or '', 'timer' or '', overdue thread ids ...}; no thread changes
-- A paused queue has none, unless even_paused asks for them.
-- Of all watchmen one keeps the time, or each due thread would wake every process: whoever asks first holds `timer` for term_ms, and
-- longer as long as it asks. The others are told of a thread only when it is overdue by spare_ms, and are the timer's spare.
--! include common
local keeps = ''
local until_ms = now
if arg.watchman ~= '' then
  local holder = redis.pcall('GET', key.timer) -- what is no string is nobody's, and is overwritten
  if type(holder) ~= 'string' or holder == arg.watchman then
    redis.call('SET', key.timer, arg.watchman, 'PX', arg.term_ms)
    keeps = 'timer'
  else
    until_ms = now - tonumber(arg.spare_ms)
  end
end
local reply = {ms(now), '', keeps}
if arg.even_paused == '' and redis.call('EXISTS', key.paused) == 1 then return reply end
local overdue = redis.call('ZRANGEBYSCORE', key.due, '-inf', ms(until_ms), 'LIMIT', 0, tonumber(arg.limit))
for i = 1, #overdue do reply[#reply + 1] = overdue[i] end
local next_due = redis.call('ZRANGEBYSCORE', key.due, '(' .. ms(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if next_due[2] and tonumber(next_due[2]) < 1e15 then reply[2] = ms(tonumber(next_due[2])) end
return reply
