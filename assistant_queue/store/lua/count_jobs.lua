-- Event `count_jobs`: jobs of the concurrent worker have ended since the last count.
-- KEYS: books running
-- ARGV: successful failed worked_s
-- Returns {'ok'}
-- successful and failed: as RQ counts; worked_s: their time together. A count whose reply was lost
-- is repeated: only people look at it.
-- A worker that RQ has given up on must not reappear as a hash without a lifetime.
if redis.pcall('EXISTS', key.books) == 1 then
  redis.pcall('HINCRBY', key.books, 'successful_job_count', arg.successful)
  redis.pcall('HINCRBY', key.books, 'failed_job_count', arg.failed)
  redis.pcall('HINCRBYFLOAT', key.books, 'total_working_time', arg.worked_s)
  if redis.pcall('EXISTS', key.running) == 0 then
    redis.pcall('HSET', key.books, 'state', 'idle')
  end
end
return {'ok'}
