-- The outbox of a thread: replies that wait for their delivery, in order. The first one is at the
-- head: only it is delivered, under another lease than the thread's, so that a slow platform never
-- holds the thread. `delivering` exists exactly as long as a reply waits.
-- Needs key.outbox, key.delivering, key.deliveries, key.counters, arg.thread_id and arg.guard_ms.
--
-- An entry of `outbox`: batch id, ms since when it waits, kind (reply, late, fallback), JSON.
-- Fields of delivering
--   batch     id of the head's batch
--   due       ms from which it may be delivered
--   token     the lease; absent while the head is not leased
--   until     ms when the lease expires
--   seen      ms when a lease was taken, or the head was postponed, last
--   last      token of the latest holder that released the head
--   number    of the holder's last write
--   deaths    leases that expired over the head while user code may have run
--   waits     1 while the holder has not called anything: a death now is no death of the head's
--   progress  tries, parts, last error: JSON, opaque here
--   wake      id of an outstanding wake-up
--   queued    ms when that was enqueued
--   s:ID      progress of a batch that a late reply has displaced from the head

local function reply_of(entry)
  return string.match(entry or '', '^([%w_-]+) (%d+) (%a+) ')
end

local function read_delivery()
  local flat = redis.call('HGETALL', key.delivering)
  local d = {}
  for i = 1, #flat, 2 do d[flat[i]] = flat[i + 1] end
  return d
end

local function number_of(value) return tonumber(value or '') or 0 end

local function is_leased(d) return d.token ~= nil and number_of(d['until']) > now end

local function set_delivery_check(at) redis.call('ZADD', key.deliveries, ms(at), arg.thread_id) end

-- Write the state of a fresh head: the caller delivers it if it gives a token, else it is due now.
-- A paused thread is not checked; `resume` schedules its check.
local function set_head(d, batch, is_paused, token, lease_ms)
  redis.call('DEL', key.delivering)
  redis.call('HSET', key.delivering, 'batch', batch, 'due', ms(now))
  -- A late copy of the claim before it takes no lease, even within the same millisecond.
  local last = d.token or d.last
  if last then redis.call('HSET', key.delivering, 'last', last) end
  for name, value in pairs(d) do
    if string.sub(name, 1, 2) == 's:' and name ~= 's:' .. batch then
      redis.call('HSET', key.delivering, name, value)
    end
  end
  local progress = d['s:' .. batch]
  if progress then redis.call('HSET', key.delivering, 'progress', progress) end
  if is_paused then
    redis.call('ZREM', key.deliveries, arg.thread_id)
  elseif token ~= '' then
    local lease_end = now + tonumber(lease_ms)
    redis.call('HSET', key.delivering, 'token', token, 'until', ms(lease_end))
    set_delivery_check(lease_end + tonumber(arg.guard_ms))
  else
    set_delivery_check(now)
  end
end

-- A reply joins the line; returns whether it is the head.
local function put_reply(entry)
  add_to('replies', 1)
  return redis.call('RPUSH', key.outbox, entry) == 1
end
