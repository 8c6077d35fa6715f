-- Event `forget`: every key of a thread goes, with the messages that wait; what is in the failed list of it is taken off the counters.
-- KEYS: thread pending frozen conversation due counters failed events over *others
-- ARGV: now thread_id seen batch_ids over_ms
-- Returns {'forgotten'}, {'busy'} a worker holds it or {'changed'} other messages wait than the caller saw: nothing has changed
-- others: the records of its messages and batches. batch_ids: of the latter, a JSON list. over: of this very call; a second one changes nothing:
-- the thread may live again.
--! include common
if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false then return {'forgotten'} end
local t = read_thread()
if t.token and tonumber(t['until']) > now then return {'busy'} end
if redis.call('LLEN', key.pending) + redis.call('LLEN', key.frozen) ~= tonumber(arg.seen) then return {'changed'} end
book(t.pk, nil, t.n)
book(t.bk, nil, t.bn)
for _, batch_id in ipairs(cjson.decode(arg.batch_ids)) do redis.call('ZREM', key.failed, batch_id) end
redis.call('ZREM', key.due, arg.thread_id)
redis.call('DEL', key.thread, key.pending, key.frozen, key.conversation, key.events)
for i = 1, rest_count do
  if redis.call('TYPE', rest_key(i)).ok == 'hash' and redis.call('HGET', rest_key(i), 'state') == 'failed' then
    book('failed', nil, tonumber(redis.call('HGET', rest_key(i), 'n')))
  end
  redis.call('DEL', rest_key(i))
end
return {'forgotten'}
