-- The wake-up: an RQ job that carries a thread id and nothing else. These bytes are known here and in store/wakeups.py;
-- a contract test compares them with what `Queue.enqueue_at` of the installed RQ writes.
-- Needs key.thread, key.scheduled, key.queue, key.queues, key.job (for arg.job_id, fresh) and arg.thread_id, arg.function, arg.origin, arg.stamp, arg.recheck_ms.

local function pickled(text)
  local size = #text
  if size < 256 then return '\140' .. string.char(size) .. text end
  return 'X' .. string.char(size % 256, math.floor(size / 256) % 256, 0, 0) .. text
end

-- pickle protocol 4 of (function, None, (thread_id,), {}); RQ reads data that is not zlib as it is.
local function payload()
  return '\128\4(' .. pickled(arg['function']) .. 'N' .. pickled(arg.thread_id) .. '\133}t.'
end

local function write_job(status)
  redis.call('HSET', key.job, 'created_at', arg.stamp, 'data', payload(), 'origin', arg.origin, 'description', 'wake-up',
    'timeout', '-1', 'result_ttl', '0', 'failure_ttl', '3600', 'status', status)
  redis.call('SADD', key.queues, key.queue)
end

-- RQ schedules in whole seconds: round up, so that nothing starts before its time.
local function seconds(at) return math.ceil(at / 1000) end

local ahead = 0 -- wake-ups that stand before this thread's in the queue
local function stands_behind(count) ahead = count end

-- To the workers. RQ's queue is first in, first out: what was handed over before the wake-up that is taken now is gone (claim.lua, wake.lua).
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

-- When somebody looks again whether a wake-up was lost: hardly before its turn can have come, or looking would be all that Redis does
-- while many wait. Two milliseconds for each that stands before it, in steps of 100, so that one look sees many.
local function look_again()
  local wait = 0
  if ahead > 0 then wait = math.ceil(ahead * 2 / 100) * 100 end
  return ms(now + tonumber(arg.recheck_ms) + wait)
end

local function schedule_new(at)
  write_job('scheduled')
  redis.call('ZADD', key.scheduled, seconds(at), arg.job_id)
  return arg.job_id
end

-- Have the thread woken at `at`, by its outstanding wake-up where that can be moved, else by a fresh one.
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
  return schedule_new(at)
end

-- Timers sleep until the earliest due time; tell them when that has moved forward.
local function tell_timers(at)
  if at > now and redis.call('ZRANGE', key.due, 0, 0)[1] == arg.thread_id then
    redis.call('PUBLISH', arg.tick, ms(at))
  end
end
