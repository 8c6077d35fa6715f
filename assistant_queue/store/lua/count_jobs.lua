-- Event `count_jobs`: jobs of the concurrent worker have ended since the last count, or its room has
-- changed.
-- KEYS: books running metrics
-- ARGV: successful failed worked_s abandoned concurrency busy
-- Returns {'ok'}
-- successful and failed: as RQ counts; worked_s: their time together. abandoned: calls of user code.
-- A count whose reply was lost is repeated: only people look at it. concurrency, busy: batches that
-- the worker takes at once, and has; '' if it has not changed. RQ ignores fields that it does not
-- know (store/wakeups.py).
if arg.abandoned ~= '0' then
  redis.pcall('HINCRBY', key.metrics, 'abandoned', arg.abandoned)
end
-- A worker that RQ has given up on must not reappear as a hash without a lifetime.
if redis.pcall('EXISTS', key.books) == 1 then
  if arg.successful ~= '0' or arg.failed ~= '0' then
    redis.pcall('HINCRBY', key.books, 'successful_job_count', arg.successful)
    redis.pcall('HINCRBY', key.books, 'failed_job_count', arg.failed)
    redis.pcall('HINCRBYFLOAT', key.books, 'total_working_time', arg.worked_s)
  end
  if arg.busy ~= '' then
    redis.pcall('HSET', key.books, 'concurrency', arg.concurrency, 'running', arg.busy)
  end
  if redis.pcall('EXISTS', key.running) == 0 then
    redis.pcall('HSET', key.books, 'state', 'idle')
  end
end
return {'ok'}
