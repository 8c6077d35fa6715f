-- Event `claim`, of a delivery: take the lease of the reply at the head of the thread's outbox.
-- KEYS: thread outbox delivering deliveries counters paused scheduled queue queues job
-- ARGV: now thread_id token lease_ms expected guard guard_ms function origin stamp job_id
-- Returns {'claimed', now, until, deaths, guard id or '', progress, entry}
--         {'refused', ms until which another worker holds it}   {'early', ms when it is due, now}
--         {'idle'}   {'paused'}
--         {'changed'}: the thread is not checked at `expected` any more; nothing has changed
--         {'corrupt', what, its key}: nothing has changed
-- A second call with the token that holds the lease returns the same claim. expected: the time of
-- the check that led to this call; it changes with every claim, so that no late copy of one takes a
-- lease. guard: 1 if a wake-up has to fire when the lease expires, because no process may look.
--! include common wakeup person outbox delivery_wake delivery_rewind
local t = read_thread()
local d = read_delivery()
local entry = redis.call('LINDEX', key.outbox, 0)
if not entry then
  redis.call('ZREM', key.deliveries, arg.thread_id)
  redis.call('DEL', key.delivering)
  return {'idle'}
end
local batch, since = reply_of(entry)
if not batch then return {'corrupt', 'outbox', key.outbox} end
local function claimed()
  return {'claimed', ms(now), d['until'], d.deaths or '0', d.wake or '', d.progress or '', entry}
end
if d.token == arg.token and d.batch == batch then return claimed() end
local score = redis.call('ZSCORE', key.deliveries, arg.thread_id)
if not score or tonumber(score) ~= tonumber(arg.expected) or d.last == arg.token then
  return {'changed'}
end
if holds_replies(t) then
  redis.call('ZREM', key.deliveries, arg.thread_id)
  return {'paused'}
end
if redis.call('EXISTS', key.paused) == 1 then return {'paused'} end
if d.batch ~= batch then d = {batch = batch, progress = d['s:' .. batch]} end
delivery_rewound(d, 0) -- no scheduler moves the times of a paused thread
-- A check that was rebuilt (store/quarantine.py) is due at once, whatever the reply waits for.
if is_leased(d) then
  set_delivery_check(number_of(d['until']) + tonumber(arg.guard_ms))
  return {'refused', d['until']}
end
if not d.token and number_of(d.due) > now then
  set_delivery_check(number_of(d.due))
  return {'early', d.due, ms(now)}
end

if d.token and d.waits ~= '1' then d.deaths = ms(number_of(d.deaths) + 1) end
if tonumber(since) > now then -- the clock was set back
  entry = batch .. ' ' .. ms(now) .. string.sub(entry, #batch + #since + 2)
  redis.call('LSET', key.outbox, 0, entry)
end
local lease_end = now + tonumber(arg.lease_ms)
d.token, d['until'] = arg.token, ms(lease_end)
-- The holder of a reply over which a worker has died calls nothing before it says so.
d.waits = number_of(d.deaths) > 0 and '1' or ''
redis.call('HDEL', key.delivering, 'number')
redis.call('HSET', key.delivering, 'batch', batch, 'token', d.token, 'until', d['until'],
  'seen', ms(now), 'deaths', d.deaths or '0', 'waits', d.waits)
if d.progress then redis.call('HSET', key.delivering, 'progress', d.progress) end
if arg.guard ~= '' then d.wake = wake_delivery_at(d.wake, lease_end + tonumber(arg.guard_ms)) end
set_delivery_check(lease_end + tonumber(arg.guard_ms))
return claimed()
