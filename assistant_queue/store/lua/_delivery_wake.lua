-- A wake-up for the delivery of a thread's replies: the same RQ job as a thread's own, kept apart,
-- because the thread may be idle or run its next batch meanwhile.
-- Needs key.delivering and the keys of _wakeup.lua.

local function push_delivery_wake(wake)
  redis.call('RPUSH', key.queue, wake)
  redis.call('HSET', key.delivering, 'wake', wake, 'queued', ms(now))
end

local function wake_delivery_at(wake, at)
  local is_scheduled = wake and redis.call('ZSCORE', key.scheduled, wake)
  if at <= now then
    if is_scheduled then redis.call('ZREM', key.scheduled, wake) end
    if not is_scheduled then
      write_job('queued')
      redis.call('HSET', key.job, 'enqueued_at', arg.stamp)
      wake = arg.job_id
    end
    push_delivery_wake(wake)
    return wake
  end
  if not is_scheduled then
    write_job('scheduled')
    wake = arg.job_id
    redis.call('HSET', key.delivering, 'wake', wake)
  end
  redis.call('ZADD', key.scheduled, seconds(at), wake)
  return wake
end
