-- Event `trim`: the provider accepts fewer messages in one run; the tail of the batch waits for the
-- next.
-- KEYS: thread pending frozen counters events feed *messages
-- ARGV: now token keep events
-- Returns {'ok', messages in the batch} or {'lost'}: nothing has changed
-- Only before anything was sent. The messages given are those that return to the list, in order:
-- they get their new places, and are in no batch.
--! include common events quiet
local t = read_thread()
if not holds(t) then return {'lost'} end
local moved, quiet, marked = 0, 0, 0
while redis.call('LLEN', key.frozen) > tonumber(arg.keep) do
  local entry = redis.call('RPOPLPUSH', key.frozen, key.pending)
  if is_quiet(entry) then quiet = quiet + 1 end
  if is_marked(entry) then marked = marked + 1 end
  moved = moved + 1
end
if moved > 0 then
  local head = t.head - moved
  for i = 1, rest_count do
    redis.call('HSET', rest_key(i), 'seq', ms(head + i - 1))
    redis.call('HDEL', rest_key(i), 'batch')
    redis.pcall('HINCRBY', rest_key(i), 'rev', 1)
  end
  local is_waiting = quiet < moved or (t.n > 0 and not is_never(t.own_due))
  book(t.bk, 'waiting', moved)
  book(t.pk, 'waiting', t.n) -- messages that arrived since the claim join the same list, now due
  redis.call('HSET', key.thread, 'bn', t.bn - moved, 'n', t.n + moved, 'head', head,
    'own_due', ms(is_waiting and now or never), 'first', t.claimed, 'pk', 'waiting')
  if marked > 0 then redis.call('HSET', key.thread, 'quiet', '1') end
  if is_watched() then
    local ids = ids_of(redis.call('LRANGE', key.frozen, 0, -1))
    publish('batch_claimed', cjson.encode({batch_id = t.batch, message_ids = ids, attempt = 1}))
  end
end
return {'ok', ms(t.bn - moved)}
