-- Event `rewind`, of questions: Redis' clock was set back, as for threads (_rewind.lua).
-- KEYS: questions
-- ARGV: now back_ms
-- Returns {'ok'}
-- A second call may have a question asked twice, and loses none.
--! include common
-- Chosen: some milliseconds.
local most = 1000
local found = redis.call('ZRANGE', key.questions, '(' .. ms(now), '+inf', 'BYSCORE', 'LIMIT', 0,
  most, 'WITHSCORES')
for i = 1, #found, 2 do
  redis.call('ZADD', key.questions, ms(math.max(found[i + 1] - tonumber(arg.back_ms), now)),
    found[i])
end
return {'ok'}
