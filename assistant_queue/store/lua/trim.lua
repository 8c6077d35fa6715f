-- Event `trim`: the provider takes fewer messages in one run; the tail of the batch waits for the next.
-- KEYS: thread pending frozen counters events *messages
-- ARGV: now token keep events
-- Returns {'ok', messages in the batch} or {'lost'}: nothing has changed
-- Only before anything was sent. The messages given are those that go back, in order: they learn their new places.
--! include common events
local t = read_thread()
if not holds(t) then return {'lost'} end
local moved = 0
while redis.call('LLEN', key.frozen) > tonumber(arg.keep) do
  redis.call('RPOPLPUSH', key.frozen, key.pending)
  moved = moved + 1
end
if moved > 0 then
  local head = t.head - moved
  for i = 1, rest_count do
    redis.call('HSET', rest_key(i), 'seq', ms(head + i - 1))
    redis.pcall('HINCRBY', rest_key(i), 'rev', 1)
  end
  book(t.bk, 'waiting', moved)
  book(t.pk, 'waiting', t.n) -- what came since the claim may have a window of its own: all of it is one list now
  redis.call('HSET', key.thread, 'bn', t.bn - moved, 'n', t.n + moved, 'head', head, 'own_due', ms(now), 'first', t.claimed, 'pk', 'waiting')
  if listened() then
    tell('batch_claimed', cjson.encode({batch_id = t.batch, message_ids = ids_of(redis.call('LRANGE', key.frozen, 0, -1)), attempt = 1}))
  end
end
return {'ok', ms(t.bn - moved)}
