-- Event `say`: a text for the thread's platform and its subscribers, without a run: it joins the
-- outbox, in order with the replies. A reply joins the waiting messages, too, for the provider's
-- conversation. While a person answers the thread, it answers the messages before it.
-- KEYS: thread message record outbox delivering deliveries counters paused scheduled queue queues
--       job events feed pending due journal
-- ARGV: now thread_id message_id batch_id author text kind labels result reply entry result_ttl_ms
--       over_ms guard_ms recheck_ms tick function origin stamp job_id events journal
--       journal_most journal_ttl_ms
-- Returns {'said', ms when, wake-up id or ''}
-- message_id, batch_id: fresh, of this very call. result, reply: JSON, opaque here; this step adds
-- its time. The record is that of a batch that is completed, so that the delivery of the text is
-- shown, parked and returned as that of a reply. entry: '' for a notice, else packed with its mark
-- (_quiet.lua).
--! include common wakeup events quiet person join outbox delivery_wake journal
local known = redis.call('HMGET', key.message, 'at', 'job')
-- The same call again: its reply was lost.
if known[1] then return {'said', known[1], known[2] or ''} end

-- The names are those of core/progress.py, and of store/reply_codec.py, which counts from `b`.
local function timed(json, ...)
  local times = ''
  for _, name in ipairs({...}) do times = times .. ',"' .. name .. '":' .. ms(now) end
  return string.sub(json, 1, -2) .. times .. '}'
end

local t = read_thread()
local seq
local job = ''

-- A person's reply answers the messages before it: they are written with it, at once.
local function answer_waiting()
  if not is_spoken(t) and t.wake and not redis.call('ZSCORE', key.scheduled, t.wake) then
    t.wake = nil -- a worker may have taken it, and found nothing to claim
  end
  local seq_of_reply = t.head + redis.call('LLEN', key.pending)
  t.spoken = ms(seq_of_reply) .. ' ' .. (arg.author ~= '' and arg.author or t.taken_by)
  redis.call('HSET', key.thread, 'spoken', t.spoken)
end

-- Written with it: another person may have the thread when a worker reads it.
local function named(entry)
  if arg.author ~= '' or not is_taken_over(t) or not is_said(entry) then return entry end
  return '{"w":2,"a":' .. cjson.encode(t.taken_by) .. ',' .. string.sub(entry, 8)
end

if arg.entry ~= '' then
  if is_taken_over(t) then answer_waiting() end
  -- Any other reply opens no window and ends none: the messages before it are sent first.
  local opens = t.n == 0 or is_never(t.own_due)
  local first = opens and now or tonumber(t.first)
  local is_due = opens or is_taken_over(t)
  seq, job = join(t, timed(named(arg.entry), 'q'), first, is_due and now or tonumber(t.own_due))
  add_to('said', 1)
end
local entry = arg.batch_id .. ' ' .. ms(now) .. ' reply ' .. timed(arg.reply, 'b')
if put_reply(entry) then
  set_head({}, arg.batch_id, holds_replies(t), '', '')
  -- A paused queue delivers nothing; `resume_queue` has all deliveries checked. A worker that takes
  -- a wake-up of the thread delivers, too.
  if not holds_replies(t) and job ~= arg.job_id and redis.call('EXISTS', key.paused) == 0 then
    job = wake_delivery_at(nil, now)
  end
end
redis.call('HSET', key.record, 'thread', arg.thread_id, 'state', 'completed',
  'result', timed(arg.result, 'started_at', 'ended_at'), 'account', '{}', 'delivery', 'pending')
redis.call('PEXPIRE', key.record, arg.result_ttl_ms)
redis.call('HSET', key.message, 'thread', arg.thread_id, 'at', ms(now), 'due', ms(now), 'job', job)
if arg.labels ~= '' then redis.call('HSET', key.message, 'labels', arg.labels) end
if seq then
  redis.call('HSET', key.message, 'seq', ms(seq), 'said', arg.batch_id)
else
  redis.call('HSET', key.message, 'batch', arg.batch_id)
  -- As long as a late copy of the call may arrive, too.
  redis.call('PEXPIRE', key.message,
    math.max(tonumber(arg.result_ttl_ms), tonumber(arg.over_ms)))
end
journal_batch('[' .. ms(now) .. ',' .. arg.journal)
if is_watched() then
  publish('said', cjson.encode(
    {message_id = arg.message_id, author = arg.author, text = arg.text, kind = arg.kind}))
end
return {'said', ms(now), job}
