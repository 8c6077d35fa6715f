-- Event `revised`: the revisions of a batch's messages are made, and the progress that this makes of
-- it is stored, in one step.
-- KEYS: thread frozen counters events feed *messages
-- ARGV: now token number phase progress count entries removed edited result_ttl_ms events
-- Returns {'ok'}
--         {'changed'}: there are more revisions than `count`; nothing has changed
--         {'lost'}: nothing has changed
-- entries: the packed messages that are left, a JSON list, in order. messages: the records of those
-- that are removed, and then of those that are edited; `removed` are the ids of the former, `edited`
-- the entries and digests of the latter, JSON lists. A late copy changes nothing.
--! include common events
local t = read_thread()
if not holds(t) then return {'lost'} end
if is_late(t.number) then return {'ok'} end
if (t.revisions or '') ~= arg.count then return {'changed'} end
redis.call('HDEL', key.thread, 'revisions')
redis.call('HSET', key.thread, 'phase', arg.phase, 'progress', arg.progress, 'number', arg.number,
  'deaths', '0')
local entries = cjson.decode(arg.entries)
redis.call('DEL', key.frozen)
for _, entry in ipairs(entries) do redis.call('RPUSH', key.frozen, entry) end
local removed = cjson.decode(arg.removed)
for i = 1, #removed do
  redis.call('HSET', rest_key(i), 'state', 'cancelled')
  redis.call('HDEL', rest_key(i), 'batch', 'revision')
  redis.call('PEXPIRE', rest_key(i), arg.result_ttl_ms)
  if is_watched() then publish('message_cancelled', cjson.encode({message_id = removed[i]})) end
end
for i, pair in ipairs(cjson.decode(arg.edited)) do
  local place = #removed + i
  redis.call('HSET', rest_key(place), 'digest', pair[2])
  redis.call('HDEL', rest_key(place), 'revision')
  if is_watched() then publish('message_edited', cjson.encode({entry = pair[1]})) end
end
local left = redis.call('LLEN', key.frozen)
book(t.bk, 'cancelled', t.bn - left)
redis.call('HSET', key.thread, 'bn', left)
return {'ok'}
