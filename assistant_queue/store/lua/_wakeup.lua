-- The wake-up: an RQ job that carries a thread id and nothing else. Its bytes are defined here and
-- read by store/wakeup_codec.py; a contract test compares them with those that `Queue.enqueue_at`
-- of the installed RQ writes.
-- Needs key.thread, key.scheduled, key.queue, key.queues, key.job (for arg.job_id, fresh) and
-- arg.thread_id, arg.function, arg.origin, arg.stamp, arg.recheck_ms.

-- pickle protocol 4 of (function, None, (thread_id,), {}); RQ reads data that is not zlib as it is.
local function payload()
  local function pickled(text)
    local size = #text
    if size < 256 then return '\140' .. string.char(size) .. text end
    return 'X' .. string.char(size % 256, math.floor(size / 256) % 256, 0, 0) .. text
  end
  return '\128\4(' .. pickled(arg['function']) .. 'N' .. pickled(arg.thread_id) .. '\133}t.'
end

local function write_job(status)
  redis.call('HSET', key.job, 'created_at', arg.stamp, 'data', payload(), 'origin', arg.origin,
    'description', 'wake-up', 'timeout', '-1', 'result_ttl', '0', 'failure_ttl', '3600',
    'status', status)
  redis.call('SADD', key.queues, key.queue)
end

-- RQ schedules in whole seconds: round up, so that no job starts before its time.
local function seconds(at) return math.ceil(at / 1000) end

local ahead = 0 -- wake-ups that stand before this thread's in the queue
local function set_ahead(count) ahead = count end

-- Enqueue a wake-up for the workers. RQ's queue is first in, first out: when a wake-up is taken,
-- all that were enqueued before it are gone (claim.lua, wake.lua).
local function hand_over(wake)
  ahead = redis.call('RPUSH', key.queue, wake) - 1
  redis.call('HSET', key.thread, 'queued', ms(now))
end

local function enqueue_new()
  write_job('queued')
  redis.call('HSET', key.job, 'enqueued_at', arg.stamp)
  hand_over(arg.job_id)
  return arg.job_id
end

-- Microseconds. Chosen: a worker that sends over HTTP needs some 2,000 to 8,000 per wake-up.
local first_pace = 10000
-- Chosen: the pace varies, and a check before a wake-up's turn finds nothing.
local pace_margin = 1.5

-- When to check whether the wake-up was lost: hardly before its turn can have come, or Redis would
-- be busy with checks while many wait. The pace at which wake-ups are taken is known (claim.lua).
-- In steps of 100 ms, so that one scan covers many.
local function recheck_at()
  local wait = 0
  if ahead > 0 then
    local pace = tonumber(redis.call('HGET', key.counters, 'pace') or '') or first_pace
    wait = math.ceil(ahead * pace * pace_margin / 100000) * 100
  end
  return ms(now + tonumber(arg.recheck_ms) + wait)
end

-- Wake the thread at `at`, by its outstanding wake-up if that can be moved, else by a fresh one.
local function wake_at(wake, at)
  if wake and redis.call('ZSCORE', key.scheduled, wake) then
    if at <= now then
      redis.call('ZREM', key.scheduled, wake)
      hand_over(wake)
    else
      redis.call('ZADD', key.scheduled, seconds(at), wake)
    end
    return wake
  end
  if at <= now then return enqueue_new() end
  write_job('scheduled')
  redis.call('ZADD', key.scheduled, seconds(at), arg.job_id)
  return arg.job_id
end

-- The leading scheduler sleeps until the earliest due time; publish one that is earlier.
local function publish_tick(at)
  if at > now and redis.call('ZRANK', key.due, arg.thread_id) == 0 then
    redis.call('PUBLISH', arg.tick, ms(at))
  end
end
