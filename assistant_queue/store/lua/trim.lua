-- Event `trim`: the provider accepts fewer messages in one run; the tail of the batch waits for the
-- next.
-- KEYS: thread pending frozen counters events feed *messages
-- ARGV: now token number keep count revisions left result_ttl_ms events
-- Returns {'ok', messages in the batch}
--         {'revised'}: there are other revisions of its messages than `count`; nothing has changed
--         {'lost'}: nothing has changed
-- Only before anything of them was sent. The messages given are those that return to the list, in
-- order: they get their new places, and are in no batch. revisions: of each of them, a JSON list, or
-- '' if there are none: 0; 1 to remove it; or its entry and digest as it is edited. left: 1 if
-- messages that stay have revisions. A late copy changes nothing.
--! include common events quiet
local t = read_thread()
if not holds(t) then return {'lost'} end
if is_late(t.number) then return {'ok', ms(t.bn)} end
if (t.revisions or '') ~= arg.count then return {'revised'} end
redis.call('HSET', key.thread, 'number', arg.number)
local revisions = arg.revisions ~= '' and cjson.decode(arg.revisions) or {}
local given_back = redis.call('LRANGE', key.frozen, arg.keep, -1)
redis.call('LTRIM', key.frozen, 0, tonumber(arg.keep) - 1)
local moved, quiet, marked = 0, 0, 0
for i = #given_back, 1, -1 do
  local entry, revision = given_back[i], revisions[i]
  if revision ~= 1 then
    redis.call('LPUSH', key.pending, type(revision) == 'table' and revision[1] or entry)
    if is_quiet(entry) then quiet = quiet + 1 end
    if is_marked(entry) then marked = marked + 1 end
    moved = moved + 1
  end
end
local removed = #given_back - moved
local head = t.head - moved
local seq = head
for i = 1, rest_count do
  local revision = revisions[i]
  redis.call('HDEL', rest_key(i), 'batch', 'revision')
  if revision == 1 then
    redis.call('HSET', rest_key(i), 'state', 'cancelled')
    redis.call('PEXPIRE', rest_key(i), arg.result_ttl_ms)
    if is_watched() then
      local id = ids_of({given_back[i]})[1]
      publish('message_cancelled', cjson.encode({message_id = id}))
    end
  else
    redis.call('HSET', rest_key(i), 'seq', ms(seq))
    seq = seq + 1
    redis.pcall('HINCRBY', rest_key(i), 'rev', 1)
    if type(revision) == 'table' then
      redis.call('HSET', rest_key(i), 'digest', revision[2])
      if is_watched() then publish('message_edited', cjson.encode({entry = revision[1]})) end
    end
  end
end
if arg.left == '' and t.revisions then redis.call('HDEL', key.thread, 'revisions') end
book(t.bk, 'cancelled', removed)
book(t.bk, 'waiting', moved)
redis.call('HSET', key.thread, 'bn', t.bn - #given_back)
if moved > 0 then
  local is_waiting = quiet < moved or (t.n > 0 and not is_never(t.own_due))
  book(t.pk, 'waiting', t.n) -- messages that arrived since the claim join the same list, now due
  redis.call('HSET', key.thread, 'n', t.n + moved, 'head', head,
    'own_due', ms(is_waiting and now or never), 'first', t.claimed, 'pk', 'waiting')
  if marked > 0 then redis.call('HSET', key.thread, 'quiet', '1') end
end
if #given_back > 0 and is_watched() then
  local ids = ids_of(redis.call('LRANGE', key.frozen, 0, -1))
  publish('batch_claimed', cjson.encode({batch_id = t.batch, message_ids = ids, attempt = 1}))
end
return {'ok', ms(t.bn - #given_back)}
