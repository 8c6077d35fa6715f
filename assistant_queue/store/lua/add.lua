-- Event `add`: a message arrives. One round trip; its cost is independent of the queue's length.
-- KEYS: thread pending message over pace due counters scheduled queue queues job events feed
-- ARGV: now thread_id entry chars labels digest nonce delay_ms window max_wait_ms max_batch
--       max_chars hold_ms hold_most_ms after_run mid_run wish wishes max_pending overdue_ms over_ms
--       recheck_ms tick function origin stamp job_id events
-- Returns {'added' | 'duplicate', due ms, wake-up id or '', overdue thread ids ...}
--         {'conflict', thread id of the message with this id}: the thread has not changed
--         {'full' | 'busy', waiting messages}: the thread has not changed
-- entry: of a message that wants no reply, with its mark (_quiet.lua): it moves no window.
-- labels: author, metadata and tenant, JSON, opaque here; '' for none. They stay in the message's
-- record. The entry is stored with the time of this step. chars: of its text, if there is a
-- max_chars.
-- hold_ms: the window ends no earlier than this after now, unless that is more than hold_most_ms
-- after its first message; 0 for no hold. A full window is not held.
-- wish: interrupt or steer, if mid_run is `wish`; none while a person answers the thread.
-- over: of this very call, if it may be refused: a message that found its thread full, or busy with a
-- batch, is not accepted when a copy of the call finds room.
-- What few adds need is included where they need it: Lua makes every function that it passes.
--! include common wakeup events quiet person join
local known = message_size > 0
  and redis.call('HMGET', key.message, 'thread', 'digest', 'nonce', 'due', 'job') or {}
if known[1] then
  -- redis-py repeats a command after a lost reply: the same nonce is the same call, not a second
  -- one, even if the message was edited since.
  local is_same = known[3] == arg.nonce
  if not is_same and (known[1] ~= arg.thread_id or known[2] ~= arg.digest) then
    return {'conflict', known[1]}
  end
  -- A duplicate is counted once: the record remembers the latest sixteen such calls. Chosen: few
  -- messages are added so often while copies of those calls may arrive.
  local again = is_same and arg.nonce or redis.call('HGET', key.message, 'again') or ''
  if not string.find(again, arg.nonce, 1, true) then
    redis.call('HSET', key.message, 'again', string.sub(arg.nonce .. ' ' .. again, 1, 144))
    add_to('duplicates', 1)
  end
  return {is_same and 'added' or 'duplicate',
    is_number(known[4] or '') and known[4] or ms(now), known[5] or ''}
end

local t = read_thread()
local quiet = is_quiet(arg.entry)
-- The first of the waiting messages that wants a reply opens the window.
local opens = t.n == 0 or (not quiet and is_never(t.own_due))
local most = tonumber(arg.max_pending)
local refusal
if most > 0 or arg.mid_run == 'reject' then
  refusal = redis.call('GET', key.over)
  if arg.mid_run == 'reject' and t.batch and not quiet then refusal = refusal or 'busy' end
  if most > 0 and t.n >= most and (quiet or not opens) then refusal = refusal or 'full' end
end
if refusal then
  redis.call('SET', key.over, refusal, 'PX', arg.over_ms)
  return {refusal, ms(t.n)}
end

local entry = string.sub(arg.entry, 1, -2) .. ',"q":' .. ms(now) .. '}'
local first = opens and now or tonumber(t.first)
local count = t.n + 1
local limits_chars = tonumber(arg.max_chars) > 0
local chars = limits_chars and tonumber(arg.chars) + (t.n > 0 and tonumber(t.chars or '0') or 0)
local delay = tonumber(arg.delay_ms)
if arg.window == 'adaptive' and not quiet then
--! include pace
  delay = adapted(delay, not opens or t.batch ~= nil)
end

local is_full = (tonumber(arg.max_batch) > 0 and count >= tonumber(arg.max_batch))
  or (limits_chars and chars >= tonumber(arg.max_chars))
local is_over = not opens and tonumber(t.own_due) <= now
local due
if quiet then
  due = opens and never or tonumber(t.own_due)
elseif is_over then
  due = tonumber(t.own_due) -- a latecomer does not reopen it
elseif is_full or (t.batch and arg.after_run == 'immediate') then
  due = now
elseif arg.window ~= 'fixed' then
  due = math.min(now + delay, first + tonumber(arg.max_wait_ms))
else
  -- Counted from the oldest message; one with a shorter delay can only end the window earlier.
  due = first + delay
  if not opens then due = math.min(due, tonumber(t.own_due)) end
  due = math.max(due, now)
end
local hold = tonumber(arg.hold_ms)
if hold > 0 and not quiet and not is_full and (t.batch or not is_over) then
  due = math.max(due, math.min(now + hold, first + tonumber(arg.hold_most_ms)))
end
due = math.max(due, first)

local seq, job = join(t, entry, first, due)
local due_ms = ms(due)

redis.call('HSET', key.message, 'thread', arg.thread_id, 'seq', ms(seq), 'digest', arg.digest,
  'nonce', arg.nonce, 'due', due_ms, 'job', job, 'at', ms(now))
if arg.labels ~= '' then redis.call('HSET', key.message, 'labels', arg.labels) end
if limits_chars then
  redis.call('HSET', key.thread, 'chars', ms(chars))
  redis.call('HSET', key.message, 'chars', arg.chars)
end

if arg.mid_run == 'wish' and t.batch and t.phase ~= 'delivering' and not quiet
    and not is_taken_over(t) then
--! include wish parked want
  want(t, arg.wish)
end

if is_watched() then
  publish('message_queued', cjson.encode({entry = entry, due = due_ms, pending = count}))
  if t.n > 0 and tonumber(t.own_due) ~= due then
    publish('window_moved', cjson.encode({due = due_ms, pending = count}))
  end
end

local reply = {'added', due_ms, job}
local overdue = redis.call('ZRANGEBYSCORE', key.due, '-inf', ms(now - tonumber(arg.overdue_ms)),
  'LIMIT', 0, 2)
for i = 1, #overdue do reply[#reply + 1] = overdue[i] end
return reply
