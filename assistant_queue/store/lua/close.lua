-- Event `close`: calls of a batch need no answer any more: their outputs are stored, or the run that
-- asked for them is over. What is left of each shows that it was settled.
-- KEYS: thread approvals questions events feed *calls
-- ARGV: now token ids news result_ttl_ms events
-- Returns {'ok'} or {'lost'}: nothing has changed
-- ids: of the calls, a JSON list. news: the event's fields for those that were not settled, JSON. A
-- settlement that comes later is refused. A second call changes nothing.
--! include common events person compact parked
local t = read_thread()
if not holds(t) then return {'lost'} end
for i, id in ipairs(cjson.decode(arg.ids)) do
  local known = redis.call('HMGET', rest_key(i), 'batch', 'settled', 'sent', 'asker')
  if is_of(t.batch, known[1]) then
    if not known[2] then
      redis.call('HSET', rest_key(i), 'settled', ms(now))
      redis.call('ZREM', key.approvals, id)
      settle_question(id, known[3], known[4])
      drop_ask(t, id)
      if is_watched() then publish_settled(t, id) end
    end
    redis.call('HDEL', rest_key(i), 'verdict', 'ask', 'a1', 'a2', 'a3', 'a4', 'a5', 'a6', 'a7')
    redis.call('PEXPIRE', rest_key(i), arg.result_ttl_ms)
  end
end
return {'ok'}
