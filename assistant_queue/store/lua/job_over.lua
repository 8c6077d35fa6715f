-- Event `job_over`: a job of the concurrent worker has ended: remove what keep_job.lua wrote. Like RQ,
-- delete a job without a kept result.
-- KEYS: taken execution executions started running
-- ARGV: token taken
-- Returns {'ok'}
local run = arg.taken .. ':' .. arg.token
redis.pcall('ZREM', key.started, run)
redis.pcall('SREM', key.running, run)
redis.pcall('DEL', key.execution)
redis.pcall('DEL', key.executions)
redis.pcall('DEL', key.taken)
return {'ok'}
