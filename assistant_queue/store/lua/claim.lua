-- Event `claim`: take the thread's lease and freeze its batch before anything is sent.
-- KEYS: thread pending frozen conversation known due counters paused scheduled queue queues job
--       taken events feed runs polls
-- ARGV: now thread_id token lease_ms batch_id max_take largest early_ms guard_ms poll_gap tick
--       function origin stamp job_id worker taken sending needs run_ms events
-- Returns {'claimed', now, until, batch id, phase, progress, deaths, claimed ms, guard id,
--          {id, anchor, open of the conversation}, {packed messages},
--          '1' if the thread has subscribers or '', how much of the run's text was published,
--          ms when the batch was due, the kind of wish for the batch or '',
--          '1' if this call has marked the batch as sent, or ''}
--         {'refused', ms until which another worker holds it}
--         {'early', ms when it is due, now}   {'paused'}
--         {'idle'}: nothing waits that wants a reply
--         {'over'}: a late copy of a call that took effect; nothing has changed
--         {'corrupt', what, its key}: nothing has changed
-- A second call with the token that holds the lease returns the same claim. known: the record of
-- batch_id, an id that only this call uses; only its presence counts. worker: of the job `taken`,
-- or '' if RQ's own worker took it, or none did. sending: the progress of a batch whose request
-- follows without another step (core/first_send.py), or ''; needs: what must be known of the thread's
-- conversation for that, `i` its id, `a` its end. A batch that is marked so is returned as if it were
-- not: its caller sends it.
--! include common wakeup events quiet wish person left air compact
local t = read_thread()
if not t.state then
  if t.token then -- a direct call holds an idle thread; a dead one's lease is removed
    if tonumber(t['until']) > now then return {'refused', t['until']} end
    redis.call('HDEL', key.thread, 'token', 'until')
  end
  redis.call('ZREM', key.due, arg.thread_id)
  return {'idle'}
end

local stored
local function read_conversation()
  if not stored then
    stored = redis.call('HMGET', key.conversation, 'id', 'anchor', 'open')
    for i = 1, 3 do stored[i] = stored[i] or '' end
  end
  return stored
end

local function claimed(guard, lease_end)
  -- Its holder has written nothing since.
  local is_marked = t.phase == 'sending' and t.batch == arg.batch_id and not t.number
  local phase, progress = 'frozen', ''
  if not is_marked then phase, progress = t.phase, whole_progress(t) end
  return {'claimed', ms(now), ms(lease_end), t.batch, phase, progress, t.deaths or '0',
    t.claimed, guard, read_conversation(), redis.call('LRANGE', key.frozen, 0, -1),
    has_subscribers() and '1' or '', t.told or '', t.was_due or '', wish_of(t),
    is_marked and '1' or ''}
end

-- Written with the claim: a worker that finds this phase knows that the batch may have been
-- accepted. Whatever comes between is stored over it.
local function mark_as_sent()
  local id, anchor = read_conversation()[1], read_conversation()[2]
  if id == '' and string.find(arg.needs, 'i', 1, true) then return end
  if anchor == '' and string.find(arg.needs, 'a', 1, true) then return end
  t.phase = 'sending'
  t.progress = string.gsub(arg.sending, '@(%a+)', function(name)
    if name == 'now' then return ms(now) end
    if name == 'deadline' then return ms(now + tonumber(arg.run_ms)) end
    return anchor == '' and '' or '"anchor":' .. cjson.encode(anchor) .. ','
  end)
end

-- 1. this call takes the lease   2. its batch ends, or its worker releases it
-- 3. a copy of the call arrives, without a worker
-- The id of a batch that this call froze is known as long as the batch's record is. A token that
-- took over another worker's batch is in `last` or `past`. And whatever the reply was, the call's
-- job is over when it claimed, or when its worker is: its hash is gone, or its status is `started`
-- (the records of a long run, keep_job.lua).
local function is_late_copy()
  if arg.batch_id == t.batch or arg.token == t.last
      or string.find(t.past or '', arg.token, 1, true) then
    return true
  end
  if redis.call('EXISTS', key.known) == 1 then return true end
  if arg.taken == '' then return false end
  local status = redis.pcall('HGET', key.taken, 'status')
  return type(status) ~= 'string' or (arg.worker ~= '' and status == 'started')
end

-- Characters: eight tokens. Chosen: few batches have more holders, and the other guards remain.
local most_past = 136
-- Microseconds. Chosen: workers without a free place take one wake-up a second or fewer; a wake-up
-- that is lost then is still found in time.
local slowest_pace = 50000

-- The wake-up is taken. If it stood in line already when the one before it was taken, the time
-- since then is what the workers needed for one: a tenth of it goes into the mean.
local function note_taken(queued)
  local before = redis.call('HMGET', key.counters, 'taken_at', 'pace')
  local at = tonumber(before[1] or '')
  local pace = tonumber(before[2] or '') or first_pace
  if at and queued <= at and at <= now then
    pace = pace + (math.min((now - at) * 1000, slowest_pace) - pace) / 10
  end
  redis.call('HSET', key.counters, 'taken', ms(queued), 'taken_at', ms(now), 'pace', ms(pace))
end

if holds(t) then return claimed(t.wake, tonumber(t['until'])) end
if is_late_copy() then return {'over'} end
if arg.worker ~= '' and arg.taken == t.wake and t.queued then note_taken(tonumber(t.queued)) end
local is_stopping = wish_of(t) == 'stop' -- sends nothing: a pause does not keep it
if not is_stopping and (is_kept_back(t) or redis.call('EXISTS', key.paused) == 1) then
  return {'paused'}
end
-- Refused: no retry is needed, because the holder writes the next wake-up when it finishes.
if t.token and tonumber(t['until']) > now then return {'refused', t['until']} end
-- A batch without its messages, or waiting messages that are missing: another program changed the
-- keys.
if t.batch and t.phase ~= 'delivering' and redis.call('EXISTS', key.frozen) == 0 then
  return {'corrupt', 'frozen', key.frozen}
end
if t.run and not t.token and tonumber(t.due) <= now then t.due = ms(turn_of(t) or t.due) end
if t.batch then
  local before = t.token or t.last
  if before then t.past = string.sub(before .. ' ' .. (t.past or ''), 1, most_past) end
end
if t.token and t.batch then
  t.deaths = ms(tonumber(t.deaths or 0) + 1) -- its holder died, or was stopped for too long
  add_to('takeovers', 1)
elseif is_never(t.due) then
  -- Without a wake-up, and without the lease of a direct call that died.
  if not (t.wake and redis.call('ZSCORE', key.scheduled, t.wake)) then
    redis.call('HDEL', key.thread, 'wake')
  end
  redis.call('HDEL', key.thread, 'token', 'until')
  redis.call('ZADD', key.due, t.due, arg.thread_id)
  book(t.pk, 'delayed', t.n)
  redis.call('HSET', key.thread, 'pk', 'delayed')
  return {'idle'}
elseif tonumber(t.due) > now then
  if tonumber(t.due) - now > tonumber(arg.early_ms) then
    redis.call('HSET', key.thread, 'wake', wake_at(t.wake, tonumber(t.due)))
    redis.call('ZADD', key.due, t.due, arg.thread_id)
    publish_tick(tonumber(t.due))
  end
  return {'early', t.due, ms(now)}
end

local is_look = t.run ~= nil -- at a run in the air: no news
leave_air(t)

-- Messages that a person has answered want no reply of a run. The mark stands in the list, so that
-- every worker that takes the batch, or its messages in another one, reads it.
local function mark_answered(person)
  local entries = redis.call('LRANGE', key.frozen, 0, -1)
  local entry = entries[#entries] or ''
  if not is_said(entry) then -- the batch is full, and what answers it waits
    local length = redis.call('LLEN', key.pending)
    local before = walk(length + 1, length + 1, length, 'before')
    entry = redis.call('LINDEX', key.pending, before) or ''
  end
  local is_read, said = pcall(cjson.decode, entry)
  if is_read and type(said) == 'table' and said.w == 2 and type(said.a) == 'string' then
    person = said.a
  end
  for i, entry in ipairs(entries) do
    if not is_marked(entry) then
      redis.call('LSET', key.frozen, i - 1,
        '{"w":0,"p":' .. cjson.encode(person) .. ',' .. string.sub(entry, 2))
    end
  end
end

if not t.batch then
  if redis.call('EXISTS', key.pending) == 0 then return {'corrupt', 'pending', key.pending} end
  skip_cancelled(t)
  local places = redis.call('LLEN', key.pending)
  if places == 0 then
    -- Nothing waits: version 0.1 could count a message that had been cancelled. The outstanding
    -- wake-up finds nothing to do.
    book(t.pk, 'cancelled', t.n)
    redis.call('ZREM', key.due, arg.thread_id)
    redis.call('DEL', key.thread)
    keep_pause(t)
    return {'idle'}
  end
  -- A batch takes `max_take` messages. Cancelled ones between them are removed with it, and those
  -- that want no reply taken with it; neither count. It has no more than `largest` messages, and
  -- ends where a reply of `say` is.
  local most, largest = tonumber(arg.max_take), tonumber(arg.largest)
  local take = places
  local is_answered = is_spoken(t)
  if is_answered then
    take = walk(most, largest, places, 'answered')
  elseif most < places or t.quiet then
    take = places == t.n and not t.quiet and most or walk(most, largest, places, 'after')
  end
  if take == places then
    redis.call('RENAME', key.pending, key.frozen)
  else
    for _, entry in ipairs(redis.call('LRANGE', key.pending, 0, take - 1)) do
      redis.call('RPUSH', key.frozen, entry)
    end
    redis.call('LTRIM', key.pending, take, -1)
  end
  t.head = t.head + take
  t.bn = take - redis.call('LREM', key.frozen, 0, '')
  if is_answered then mark_answered(string.match(t.spoken, '^%-?%d+ (.*)$')) end
  local left = count_left(t, take < places, t.bn)
  book(t.pk, nil, t.n - left)
  t.n = left
  local own_due = own_due_of_left(t, now)
  t.batch, t.phase, t.claimed, t.progress = arg.batch_id, 'frozen', ms(now), ''
  t.was_due = t.due
  t.bk = nil
  if arg.sending ~= '' then mark_as_sent() end
  if t.phase == 'sending' then redis.call('HSET', key.thread, 'progress', t.progress) end
  redis.call('HSET', key.thread, 'batch', t.batch, 'phase', t.phase, 'claimed', t.claimed,
    'was_due', t.was_due, 'bn', t.bn, 'n', t.n, 'head', t.head, 'first', ms(now),
    'own_due', ms(own_due))
  if t.chars then redis.call('HDEL', key.thread, 'chars') end -- what is left is due
end
book(t.pk, 'waiting', t.n)
if t.bk ~= '' then
  -- '' marks a batch with stored results: it is counted as completed, only its
  -- delivery is open.
  book(t.bk, 'active', t.bn)
  t.bk = 'active'
end

-- The guard wakes another worker if this one dies; renewals move it. An outstanding scheduled
-- wake-up becomes the guard. Else it is the job that was taken, under a fresh id: a late copy of this
-- call finds none.
local function guard_at(at)
  local is_scheduled = t.wake and redis.call('ZSCORE', key.scheduled, t.wake)
  if arg.worker == '' or is_scheduled then
    if arg.worker ~= '' then redis.call('DEL', key.taken) end
    return wake_at(t.wake, at)
  end
  redis.call('RENAME', key.taken, key.job)
  redis.call('HSET', key.job, 'status', 'scheduled')
  redis.call('ZADD', key.scheduled, seconds(at), arg.job_id)
  return arg.job_id
end

local lease_end = now + tonumber(arg.lease_ms)
local guard = guard_at(lease_end + tonumber(arg.guard_ms))
if t.past then redis.call('HSET', key.thread, 'past', t.past) end
-- This holder numbers its writes from the beginning.
if t.number or t.piece then redis.call('HDEL', key.thread, 'number', 'piece') end
t.number = nil
redis.call('HSET', key.thread, 'state', 'active', 'token', arg.token, 'until', ms(lease_end),
  'since', ms(now), 'wake', guard, 'deaths', t.deaths or '0', 'bk', t.bk, 'pk', 'waiting')
redis.call('ZADD', key.due, ms(lease_end + tonumber(arg.guard_ms)), arg.thread_id)
-- In `delivering` the batch has been answered, and only its delivery is open.
if t.phase ~= 'delivering' and not is_look and is_watched() then
  local sent = attempts_of(t.progress or '')
  if t.phase == 'frozen' or t.state == 'retrying' then sent = sent + 1 end
  local entries = redis.call('LRANGE', key.frozen, 0, -1)
  if not was_shown(entries[1], #entries) then
    publish('batch_claimed', cjson.encode(
      {batch_id = t.batch, message_ids = ids_of(entries), attempt = sent}))
  end
end
return claimed(guard, lease_end)
