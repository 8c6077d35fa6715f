-- Event `add`: a message arrives. One round trip; its cost does not depend on how much is queued.
-- KEYS: thread pending message over due counters scheduled queue queues job events
-- ARGV: now thread_id entry digest nonce delay_ms window max_wait_ms max_batch after_run max_pending overdue_ms over_ms recheck_ms tick function origin stamp job_id events
-- Returns {'added' | 'duplicate', due ms, wake-up id or '', overdue thread ids ...}
--         {'conflict', thread id of the message that has the id} or {'full', waiting messages}: the thread has not changed
-- over: of this very call, where there is a max_pending: a message that found its thread full is not taken when a copy of the call finds room.
--! include common wakeup events
local known = redis.call('HMGET', key.message, 'thread', 'digest', 'nonce', 'due', 'job')
if known[1] then
  -- redis-py repeats a command whose reply was lost: the same nonce is the same call, not a second one, even if the message was edited since.
  local is_same = known[3] == arg.nonce
  if not is_same and (known[1] ~= arg.thread_id or known[2] ~= arg.digest) then return {'conflict', known[1]} end
  return {is_same and 'added' or 'duplicate', is_number(known[4] or '') and known[4] or ms(now), known[5] or ''}
end

local t = read_thread()
local most = tonumber(arg.max_pending)
if most > 0 and (t.n >= most or redis.call('EXISTS', key.over) == 1) then
  redis.call('SET', key.over, '1', 'PX', arg.over_ms)
  return {'full', ms(t.n)}
end

local seq = t.head + redis.call('RPUSH', key.pending, arg.entry) - 1
local first = t.n == 0 and now or tonumber(t.first)
local count = t.n + 1

local due
if t.n > 0 and tonumber(t.own_due) <= now then
  due = tonumber(t.own_due) -- the window is over; a latecomer does not open it again
elseif (t.batch and arg.after_run == 'immediate') or (tonumber(arg.max_batch) > 0 and count >= tonumber(arg.max_batch)) then
  due = now
elseif arg.window == 'sliding' then
  due = math.min(now + tonumber(arg.delay_ms), first + tonumber(arg.max_wait_ms))
else
  -- From the oldest message; one that waits for less (a picture that was waited for) can only end the window earlier.
  due = first + tonumber(arg.delay_ms)
  if t.n > 0 then due = math.min(due, tonumber(t.own_due)) end
  due = math.max(due, now)
end
due = math.max(due, first)

-- What waits behind a back-off is delayed by it, and not after it, whatever its own window says.
local decides = t.state == 'retrying' and tonumber(t.due) or due
local kind = decides <= now and 'waiting' or 'delayed'
local due_ms = ms(due)
if t.n > 0 and due_ms == t.own_due and kind == t.pk then
  redis.call('HINCRBY', key.thread, 'n', 1) -- one more in an open window: nothing else has changed
else
  book(t.pk, kind, t.n)
  redis.call('HSET', key.thread, 'n', count, 'head', t.head, 'first', ms(first), 'own_due', due_ms, 'pk', kind)
end
book(nil, kind, 1)

local job = ''
if not t.batch then
  job = t.wake or ''
  if t.state ~= 'pending' or t.due ~= due_ms then redis.call('HSET', key.thread, 'state', 'pending', 'due', due_ms) end
  if t.paused then
    job = ''
  elseif not t.wake or t.due ~= due_ms then
    -- A wake-up that has been handed to a worker already re-arms itself when it finds that it is early.
    if not t.wake or redis.call('ZSCORE', key.scheduled, t.wake) then job = wake_at(t.wake, due) end
    redis.call('HSET', key.thread, 'wake', job)
    redis.call('ZADD', key.due, due <= now and look_again() or due_ms, arg.thread_id)
    tell_timers(due)
  end
end

redis.call('HSET', key.message, 'thread', arg.thread_id, 'seq', ms(seq), 'digest', arg.digest, 'nonce', arg.nonce, 'due', due_ms, 'job', job)

if listened() then
  tell('message_queued', cjson.encode({entry = arg.entry, due = due_ms, pending = count}))
  if t.n > 0 and tonumber(t.own_due) ~= due then tell('window_moved', cjson.encode({due = due_ms, pending = count})) end
end

local reply = {'added', due_ms, job}
local overdue = redis.call('ZRANGEBYSCORE', key.due, '-inf', ms(now - tonumber(arg.overdue_ms)), 'LIMIT', 0, 2)
for i = 1, #overdue do reply[#reply + 1] = overdue[i] end
return reply
