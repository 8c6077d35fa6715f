-- Event `release`, of a question: its holder could not ask, or show, and tries again later; or it has
-- shown the verdict, or gives up.
-- KEYS: call questions
-- ARGV: now call_id token sent wait_ms tries
-- Returns {'ok'} or {'lost'}: nothing has changed
-- wait_ms: until it is due again; '' for never. sent: the parts that the holder knows; if more were
-- noted meanwhile it is due for them. A second call gets the same reply.
--! include common
local known = redis.call('HMGET', key.call, 'asker', 'sent')
if known[1] == '-' .. arg.token then return {'ok'} end
if known[1] ~= arg.token then return {'lost'} end
redis.call('HSET', key.call, 'asker', '-' .. arg.token)
redis.call('HDEL', key.call, 'asker_deaths')
if arg.wait_ms ~= '' then
  redis.call('HSET', key.call, 'tries', arg.tries)
  redis.call('ZADD', key.questions, ms(now + tonumber(arg.wait_ms)), arg.call_id)
  return {'ok'}
end
redis.call('HDEL', key.call, 'tries')
if arg.sent ~= '' then redis.call('HSET', key.call, 'shown', arg.sent) end
if (known[2] or '') == arg.sent then
  redis.call('ZREM', key.questions, arg.call_id)
else
  redis.call('ZADD', key.questions, ms(now), arg.call_id)
end
return {'ok'}
