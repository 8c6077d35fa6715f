-- Read: threads with a reply that is due, longest overdue first, and when the next one is due.
-- KEYS: deliveries paused
-- ARGV: now limit late_ms offset
-- Returns {now, ms of the earliest that is not overdue or '', thread id, ms of its check ...};
--         nothing changes
-- A paused queue has none.
--! include common
local reply = {ms(now), ''}
if redis.call('EXISTS', key.paused) == 1 then return reply end
local most = ms(now - tonumber(arg.late_ms))
local later = redis.call('ZRANGEBYSCORE', key.deliveries, '(' .. most, '+inf',
  'WITHSCORES', 'LIMIT', 0, 1)
if later[2] then reply[2] = ms(tonumber(later[2])) end
local due = redis.call('ZRANGEBYSCORE', key.deliveries, '-inf', most,
  'WITHSCORES', 'LIMIT', tonumber(arg.offset), tonumber(arg.limit))
for i = 1, #due do reply[#reply + 1] = i % 2 == 1 and due[i] or ms(tonumber(due[i])) end
return reply
