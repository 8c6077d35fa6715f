-- Event `claim`: take the thread's lease and freeze its batch before anything is sent.
-- KEYS: thread pending frozen conversation known due counters paused scheduled queue queues job taken execution executions started books running events
-- ARGV: now thread_id token lease_ms batch_id max_take early_ms guard_ms tick function origin stamp job_id worker taken events
-- Returns {'claimed', now, until, batch id, phase, progress, deaths, claimed ms, guard id, {id, anchor, open of the conversation}, {packed messages},
--          '1' if somebody listens or '', how much of the run's text was told}
--         {'refused', ms until which another worker holds it}   {'early', ms when it is due, now}   {'idle'}   {'paused'}
--         {'over'}: a late copy of a call that has had its effect; nothing has changed
--         {'corrupt', what, its key}: nothing has changed
-- A second call with the token that holds the lease returns the same claim. known: the record of batch_id, which is this
-- call's alone; only its presence counts.
--! include common wakeup events job
local t = read_thread()
if not t.state then
  if t.token then -- a direct call holds an idle thread; a dead one's lease is cleared away
    if tonumber(t['until']) > now then return {'refused', t['until']} end
    redis.call('HDEL', key.thread, 'token', 'until')
  end
  redis.call('ZREM', key.due, arg.thread_id)
  return {'idle'}
end

local function claimed(guard, lease_end)
  local conversation = redis.call('HMGET', key.conversation, 'id', 'anchor', 'open')
  for i = 1, 3 do conversation[i] = conversation[i] or '' end
  return {'claimed', ms(now), ms(lease_end), t.batch, t.phase, t.progress or '', t.deaths or '0', t.claimed, guard, conversation,
    redis.call('LRANGE', key.frozen, 0, -1), listened() and '1' or '', t.told or ''}
end

-- Places of cancelled messages in front of the first one that waits are removed: a list that is there after this begins with a message.
local function skip_cancelled()
  while redis.call('LINDEX', key.pending, 0) == '' do
    redis.call('LPOP', key.pending)
    t.head = t.head + 1
  end
end

-- 1. this call takes the lease   2. its batch ends, or its worker gives it back   3. a copy of the call arrives, with no worker behind it
-- The id of a batch that this call froze is known as long as the batch's record is. A token that took over another's batch is in `last` or
-- `past`. And whatever the reply was, the job of the call is over when its worker is: its hash is gone, or says that it was started.
local function is_over()
  if arg.batch_id == t.batch or arg.token == t.last or string.find(t.past or '', arg.token, 1, true) then return true end
  if redis.call('EXISTS', key.known) == 1 then return true end
  if arg.taken == '' then return false end
  local status = redis.pcall('HGET', key.taken, 'status')
  return type(status) ~= 'string' or (arg.worker ~= '' and status == 'started')
end

local most_past = 136 -- characters: eight tokens. Chosen: few batches have more holders, and the other guards remain.
local step = 100 -- Chosen: enough places for most lists in one look, few enough to hold in Lua.

-- Walk along the list until `most` messages were met: how many places that took, and how many messages they hold.
local function walk(most, length)
  local found = 0
  for start = 0, length - 1, step do
    for i, entry in ipairs(redis.call('LRANGE', key.pending, start, start + step - 1)) do
      if entry ~= '' then found = found + 1 end
      if found == most then return start + i, found end
    end
  end
  return length, found
end

if holds(t) then return claimed(t.wake, tonumber(t['until'])) end
if is_over() then return {'over'} end
if arg.worker ~= '' and arg.taken == t.wake and t.queued then redis.call('HSET', key.counters, 'taken', t.queued) end
if t.paused or redis.call('EXISTS', key.paused) == 1 then return {'paused'} end
-- Refused: no retry is needed, because the holder writes the next wake-up when it finishes.
if t.token and tonumber(t['until']) > now then return {'refused', t['until']} end
-- A batch without its messages, or waiting messages that are not there: somebody else has been at the keys.
if t.batch and t.phase ~= 'delivering' and redis.call('EXISTS', key.frozen) == 0 then return {'corrupt', 'frozen', key.frozen} end
if t.batch then
  local before = t.token or t.last
  if before then t.past = string.sub(before .. ' ' .. (t.past or ''), 1, most_past) end
end
if t.token and t.batch then
  t.deaths = ms(tonumber(t.deaths or 0) + 1) -- its holder died, or was stopped for too long
elseif tonumber(t.due) > now then
  if tonumber(t.due) - now > tonumber(arg.early_ms) then
    redis.call('HSET', key.thread, 'wake', wake_at(t.wake, tonumber(t.due)))
    redis.call('ZADD', key.due, t.due, arg.thread_id)
    tell_timers(tonumber(t.due))
  end
  return {'early', t.due, ms(now)}
end

if not t.batch then
  if redis.call('EXISTS', key.pending) == 0 then return {'corrupt', 'pending', key.pending} end
  skip_cancelled()
  local places = redis.call('LLEN', key.pending)
  if places == 0 then
    -- Nothing waits: version 0.1 could count a message that had been cancelled. The wake-up that was written finds nothing to do.
    book(t.pk, nil, t.n)
    redis.call('ZREM', key.due, arg.thread_id)
    redis.call('DEL', key.thread)
    return {'idle'}
  end
  -- A batch takes `max_take` messages. Cancelled ones that stand among them go with it, and use up nothing of it.
  local most = tonumber(arg.max_take)
  local take = places
  if most < places then take = places == t.n and most or walk(most, places) end
  if take == places then
    redis.call('RENAME', key.pending, key.frozen)
  else
    for _, entry in ipairs(redis.call('LRANGE', key.pending, 0, take - 1)) do redis.call('RPUSH', key.frozen, entry) end
    redis.call('LTRIM', key.pending, take, -1)
  end
  t.head = t.head + take
  t.bn = take - redis.call('LREM', key.frozen, 0, '')
  local left = 0
  if take < places then
    skip_cancelled()
    places = redis.call('LLEN', key.pending)
    left = t.n - t.bn
    -- The list is what counts, should the number ever be wrong: what is in it is not forgotten, what is not is not waited for.
    if left < 1 or left > places then left = select(2, walk(places, places)) end
  end
  book(t.pk, nil, t.n - left)
  t.n = left
  t.batch, t.phase, t.claimed, t.progress = arg.batch_id, 'frozen', ms(now), ''
  t.bk = nil
  redis.call('HSET', key.thread, 'batch', t.batch, 'phase', t.phase, 'claimed', t.claimed, 'bn', t.bn, 'n', t.n, 'head', t.head,
    'first', ms(now), 'own_due', ms(now))
end
book(t.pk, 'waiting', t.n)
if t.bk ~= '' then
  -- '' marks a batch whose results are stored already: it is counted as completed, only its delivery is open.
  book(t.bk, 'active', t.bn)
  t.bk = 'active'
end

-- The guard wakes somebody if this worker dies; renewals move it. A wake-up that is still to come becomes the guard.
local lease_end = now + tonumber(arg.lease_ms)
local guard = wake_at(t.wake, lease_end + tonumber(arg.guard_ms))
if t.past then redis.call('HSET', key.thread, 'past', t.past) end
if t.number or t.piece then redis.call('HDEL', key.thread, 'number', 'piece') end -- this holder counts its own
redis.call('HSET', key.thread, 'state', 'active', 'token', arg.token, 'until', ms(lease_end), 'wake', guard, 'deaths', t.deaths or '0',
  'bk', t.bk, 'pk', 'waiting')
redis.call('ZADD', key.due, ms(lease_end + tonumber(arg.guard_ms)), arg.thread_id)
if t.phase ~= 'delivering' and listened() then -- else it has been answered, only its delivery is open
  local sent = t.progress and t.progress ~= '' and cjson.decode(t.progress).attempts or 0
  if t.phase == 'frozen' or t.state == 'retrying' then sent = sent + 1 end
  tell('batch_claimed', cjson.encode({batch_id = t.batch, message_ids = ids_of(redis.call('LRANGE', key.frozen, 0, -1)), attempt = sent}))
end
start_job(lease_end)
return claimed(guard, lease_end)
