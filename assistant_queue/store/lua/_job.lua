-- RQ's own records of a job that runs: what `rq info` and RQ's dashboards show of our concurrent worker. Stock and forking workers keep
-- them themselves, with 44 commands a job; ours has them written by the scripts that claim and release. A contract test compares these
-- bytes with what the installed RQ writes. The lease's token is RQ's id of the execution.
-- Needs key.taken (the job), key.execution, key.executions (the job's), key.started (the queue's), key.books (the worker), key.running
-- (the worker's executions), arg.taken (the job's id), arg.worker (its name; '' where RQ keeps the records), arg.token and arg.stamp.
-- pcall: nothing is decided by these records, and what somebody else has put in their place stops no batch.

local beat_ms = 60000 -- what a record outlives its lease by: a dead worker's vanish by themselves. Source: RQ's own heartbeats allow 60 s.
local worker_ms = 480000 -- how long RQ remembers a worker that does not say a word. Source: its own 420 + 60 s.
local run = arg.taken .. ':' .. arg.token

local function unix() return string.format('%.3f', now / 1000) end

-- The records last until the lease lapses and a while longer; renewals call this, too.
local function keep_job(lease_end)
  if arg.worker == '' then return end
  local ends = lease_end + beat_ms
  local left = ms(ends - now)
  redis.pcall('ZADD', key.started, ms(math.floor(ends / 1000)), run)
  redis.pcall('ZADD', key.executions, ms(math.floor(ends / 1000)), arg.token)
  redis.pcall('PEXPIRE', key.executions, left)
  redis.pcall('HSET', key.execution, 'last_heartbeat', unix())
  redis.pcall('PEXPIRE', key.execution, left)
  redis.pcall('HSET', key.taken, 'last_heartbeat', arg.stamp)
  redis.pcall('PEXPIRE', key.taken, left)
end

local function start_job(lease_end)
  if arg.worker == '' then return end
  redis.pcall('HSET', key.taken, 'status', 'started', 'started_at', arg.stamp, 'worker_name', arg.worker)
  redis.pcall('HSET', key.execution, 'id', arg.token, 'job_id', arg.taken, 'created_at', unix(), 'worker_name', arg.worker)
  redis.pcall('SADD', key.running, run)
  redis.pcall('PEXPIRE', key.running, worker_ms)
  if redis.pcall('EXISTS', key.books) == 1 then redis.pcall('HSET', key.books, 'state', 'busy') end
  keep_job(lease_end)
end

-- The job is over, whatever became of the batch: RQ deletes a job whose result is not kept, and so does this.
local function end_job(outcome)
  if arg.worker == '' then return end
  local created = redis.pcall('HGET', key.execution, 'created_at')
  local began = tonumber(type(created) == 'string' and created or '') or now / 1000
  redis.pcall('ZREM', key.started, run)
  redis.pcall('SREM', key.running, run)
  redis.pcall('DEL', key.execution)
  redis.pcall('DEL', key.executions)
  if redis.pcall('DEL', key.taken) == 0 then return end -- the same call again, or records that have run out: nothing to count
  if redis.pcall('EXISTS', key.books) == 1 then -- one that RQ has given up on is not brought back as a hash without an end
    redis.pcall('HINCRBY', key.books, outcome .. '_job_count', 1)
    redis.pcall('HINCRBYFLOAT', key.books, 'total_working_time', now / 1000 - began)
    if redis.pcall('EXISTS', key.running) == 0 then redis.pcall('HSET', key.books, 'state', 'idle') end
  end
end
