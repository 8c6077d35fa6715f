-- Read: the threads at which somebody should have looked by now, longest overdue first, and when the next one is due.
-- KEYS: due paused
-- ARGV: now limit even_paused
-- Returns {now, ms of the earliest thread that is not overdue or '', overdue thread ids ...}; nothing changes
-- A paused queue has none, unless even_paused asks for them.
--! include common
local reply = {ms(now), ''}
if arg.even_paused == '' and redis.call('EXISTS', key.paused) == 1 then return reply end
local overdue = redis.call('ZRANGEBYSCORE', key.due, '-inf', ms(now), 'LIMIT', 0, tonumber(arg.limit))
for i = 1, #overdue do reply[#reply + 1] = overdue[i] end
local next_due = redis.call('ZRANGEBYSCORE', key.due, '(' .. ms(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if next_due[2] and tonumber(next_due[2]) < 1e15 then reply[2] = ms(tonumber(next_due[2])) end
return reply
