-- Event `ask`: the channel has the question about a call.
-- KEYS: call questions
-- ARGV: now call_id token part
-- Returns {'ok'}
--         {'lost'}: another worker may ask, too; what was sent is noted nevertheless
--         {'gone'}: there is no record of the call; nothing has changed
-- part: how the channel finds the message again, without spaces. A call that was settled meanwhile is
-- due: its buttons are removed. A second call gets the same reply.
--! include common
-- Chosen: each is a worker that was late.
local most_parts = 8
local known = redis.call('HMGET', key.call, 'asker', 'sent', 'settled', 'thread')
if not known[4] then return {'gone'} end
local asker, sent = known[1], known[2]
local parts, is_known = {}, false
for one in string.gmatch(sent or '', '%S+') do
  parts[#parts + 1] = one
  is_known = is_known or one == arg.part
end
if asker == '-' .. arg.token and is_known then return {'ok'} end
is_known = is_known or #parts == most_parts
if not is_known then
  parts[#parts + 1] = arg.part
  redis.call('HSET', key.call, 'sent', table.concat(parts, ' '))
end
if asker == arg.token then
  redis.call('HSET', key.call, 'asker', '-' .. arg.token)
  redis.call('HDEL', key.call, 'tries', 'asker_deaths')
  if known[3] then
    redis.call('ZADD', key.questions, ms(now), arg.call_id)
  else
    redis.call('ZREM', key.questions, arg.call_id)
  end
  return {'ok'}
end
if known[3] and not is_known and (not asker or string.sub(asker, 1, 1) == '-') then
  redis.call('ZADD', key.questions, ms(now), arg.call_id)
end
return {'lost'}
