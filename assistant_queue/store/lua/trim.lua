-- Event `trim`: the provider takes fewer messages in one run; the tail of the batch waits for the next.
-- KEYS: thread pending frozen counters
-- ARGV: now token keep
-- Returns {'ok', messages in the batch} or {'lost'}: nothing has changed
-- Only before anything was sent.
--! include common
local t = read_thread()
if not holds(t) then return {'lost'} end
local moved = 0
while redis.call('LLEN', key.frozen) > tonumber(arg.keep) do
  redis.call('RPOPLPUSH', key.frozen, key.pending)
  moved = moved + 1
end
if moved > 0 then
  book(t.bk, 'waiting', moved)
  redis.call('HSET', key.thread, 'bn', t.bn - moved, 'n', t.n + moved, 'head', t.head - moved, 'own_due', ms(now), 'first', t.claimed, 'pk', 'waiting')
end
return {'ok', ms(t.bn - moved)}
