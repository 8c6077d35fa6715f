-- Event `join`: the waiting messages join the batch that a worker has, and the progress that this
-- makes of it is stored, in one step.
-- KEYS: thread pending frozen counters events feed
-- ARGV: now token number phase progress most largest kind run_id events
-- Returns {'ok', the kind of wish for the batch that is left or '', {packed messages of the batch}} or
--         {'lost'}: nothing has changed
-- A reply of `say` among them ends what joins. kind: of the event; it has run_id. The messages are
-- marked as members of the batch by the next write of progress. A late copy changes nothing.
--! include common events quiet wish left
local t = read_thread()
if not holds(t) then return {'lost'} end
if is_late(t.number) then return {'ok', wish_of(t), redis.call('LRANGE', key.frozen, 0, -1)} end
redis.call('HSET', key.thread, 'phase', arg.phase, 'progress', arg.progress, 'number', arg.number,
  'deaths', '0')
local left_wish = wish_of(t)
-- An edit that came after the revisions were made is a wish that is left.
if left_wish ~= 'stop' and not t.revisions then
  redis.call('HDEL', key.thread, 'wish')
  left_wish = ''
end

-- Messages of the batch that want no reply use up nothing of `most`, as in a claim.
local function wanted()
  local count = 0
  for _, entry in ipairs(redis.call('LRANGE', key.frozen, 0, -1)) do
    if not is_marked(entry) then count = count + 1 end
  end
  return count
end

local function take(places)
  local most, largest = tonumber(arg.most) - wanted(), tonumber(arg.largest) - t.bn
  if places == 0 or most < 1 or largest < 1 then return 0 end
  local count = walk(most, largest, places, 'before')
  if count == 0 then return 0 end -- a reply of `say` comes first
  for _, entry in ipairs(redis.call('LRANGE', key.pending, 0, count - 1)) do
    redis.call('RPUSH', key.frozen, entry)
  end
  redis.call('LTRIM', key.pending, count, -1)
  t.head = t.head + count
  return count
end

local head = t.head
skip_cancelled(t)
if t.head ~= head then redis.call('HSET', key.thread, 'head', t.head) end
local places = redis.call('LLEN', key.pending)
local known = redis.call('LLEN', key.frozen)
local count = take(places)
if count > 0 then
  local taken = count - redis.call('LREM', key.frozen, 0, '')
  local left = count_left(t, count < places, taken)
  book(t.pk, t.bk, taken)
  book(t.pk, nil, t.n - taken - left)
  t.n = left
  redis.call('HSET', key.thread, 'bn', t.bn + taken, 'n', left, 'head', t.head,
    'own_due', ms(own_due_of_left(t, tonumber(t.own_due or now))))
  if t.chars and left == 0 then redis.call('HDEL', key.thread, 'chars') end
end
local entries = redis.call('LRANGE', key.frozen, 0, -1)
if is_watched() and (#entries > known or arg.kind == 'run_interrupted') then
  local new = arg.kind == 'run_interrupted' and entries
    or redis.call('LRANGE', key.frozen, known, -1)
  publish(arg.kind, cjson.encode({batch_id = t.batch, run_id = arg.run_id, message_ids = ids_of(new)}))
end
return {'ok', left_wish, entries}
