-- Event `say`: a text for the thread's platform and its subscribers, without a run: it joins the
-- outbox, in order with the replies.
-- KEYS: thread message record outbox delivering deliveries counters paused scheduled queue queues
--       job events
-- ARGV: now thread_id message_id batch_id author text kind labels result reply result_ttl_ms
--       over_ms guard_ms function origin stamp job_id events
-- Returns {'said', ms when, wake-up id or ''}
-- message_id, batch_id: fresh, of this very call. result, reply: JSON, opaque here; this step adds
-- its time. The record is that of a batch that is completed, so that the delivery of the text is
-- shown, parked and returned as that of a reply.
--! include common wakeup events outbox delivery_wake
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
local job = ''
local entry = arg.batch_id .. ' ' .. ms(now) .. ' reply ' .. timed(arg.reply, 'b')
if put_reply(entry) then
  set_head({}, arg.batch_id, t.paused, '', '')
  -- A paused queue delivers nothing; `resume_queue` has all deliveries checked.
  if not t.paused and redis.call('EXISTS', key.paused) == 0 then
    job = wake_delivery_at(nil, now)
  end
end
redis.call('HSET', key.record, 'thread', arg.thread_id, 'state', 'completed',
  'result', timed(arg.result, 'started_at', 'ended_at'), 'account', '{}', 'delivery', 'pending')
redis.call('PEXPIRE', key.record, arg.result_ttl_ms)
redis.call('HSET', key.message, 'thread', arg.thread_id, 'batch', arg.batch_id, 'at', ms(now),
  'due', ms(now), 'job', job)
if arg.labels ~= '' then redis.call('HSET', key.message, 'labels', arg.labels) end
-- As long as a late copy of the call may arrive, too.
redis.call('PEXPIRE', key.message, math.max(tonumber(arg.result_ttl_ms), tonumber(arg.over_ms)))
if has_subscribers() then
  publish('said', cjson.encode(
    {message_id = arg.message_id, author = arg.author, text = arg.text, kind = arg.kind}))
end
return {'said', ms(now), job}
