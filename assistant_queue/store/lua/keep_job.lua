-- Event `keep_job`: a job of the concurrent worker still runs: write, or extend, RQ's records of it,
-- which `rq info` and RQ's dashboards show.
-- KEYS: thread taken execution executions started books running queue
-- ARGV: now thread_id token worker taken began_ms began lease_ms function origin
-- Returns {'ok'} or {'lost'}: the lease is, or this is a late copy; nothing has changed
-- Stock and forking workers keep these records themselves, with 44 commands a job. A contract test
-- compares the bytes with those that the installed RQ writes. token: RQ's id of the execution.
-- began: RQ's form of began_ms.
-- pcall: no decision depends on these records, and a key of another type must not stop the others.
--! include common wakeup
if not holds(read_thread()) then return {'lost'} end

-- How much longer than a lease a record lives: those of a dead worker expire by themselves.
-- Source: RQ's own heartbeats allow 60 s.
local beat_ms = 60000
-- How long RQ remembers a silent worker. Source: its own 420 + 60 s.
local worker_ms = 480000
local left = ms(tonumber(arg.lease_ms) + beat_ms)
local ends = ms(math.floor((now + tonumber(arg.lease_ms) + beat_ms) / 1000))
local run = arg.taken .. ':' .. arg.token

local function unix(at) return string.format('%.3f', at / 1000) end

redis.pcall('HSET', key.taken, 'created_at', arg.began, 'data', payload(), 'origin', arg.origin,
  'description', 'wake-up', 'timeout', '-1', 'result_ttl', '0', 'failure_ttl', '3600',
  'enqueued_at', arg.began, 'status', 'started', 'started_at', arg.began,
  'worker_name', arg.worker, 'last_heartbeat', arg.began)
redis.pcall('PEXPIRE', key.taken, left)
redis.pcall('HSET', key.execution, 'id', arg.token, 'job_id', arg.taken,
  'created_at', unix(tonumber(arg.began_ms)), 'worker_name', arg.worker, 'last_heartbeat', unix(now))
redis.pcall('PEXPIRE', key.execution, left)
redis.pcall('ZADD', key.executions, ends, arg.token)
redis.pcall('PEXPIRE', key.executions, left)
redis.pcall('ZADD', key.started, ends, run)
redis.pcall('SADD', key.running, run)
redis.pcall('PEXPIRE', key.running, worker_ms)
-- A worker that RQ has given up on must not reappear as a hash without a lifetime.
if redis.pcall('EXISTS', key.books) == 1 then redis.pcall('HSET', key.books, 'state', 'busy') end
return {'ok'}
