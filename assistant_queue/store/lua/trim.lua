-- Event `trim`: the provider takes fewer messages in one run; the tail of the batch waits for the next.
-- KEYS: thread pending frozen counters *messages
-- ARGV: now token keep
-- Returns {'ok', messages in the batch} or {'lost'}: nothing has changed
-- Only before anything was sent. The messages given are those that go back, in order: they learn their new places.
--! include common
local t = read_thread()
if not holds(t) then return {'lost'} end
local moved = 0
while redis.call('LLEN', key.frozen) > tonumber(arg.keep) do
  redis.call('RPOPLPUSH', key.frozen, key.pending)
  moved = moved + 1
end
if moved > 0 then
  local head = t.head - moved
  for i = 1, rest_count do redis.call('HSET', rest_key(i), 'seq', ms(head + i - 1)) end
  book(t.bk, 'waiting', moved)
  book(t.pk, 'waiting', t.n) -- what came since the claim may have a window of its own: all of it is one list now
  redis.call('HSET', key.thread, 'bn', t.bn - moved, 'n', t.n + moved, 'head', head, 'own_due', ms(now), 'first', t.claimed, 'pk', 'waiting')
end
return {'ok', ms(t.bn - moved)}
