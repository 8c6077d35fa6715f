-- Event `wake`, and a look at all other threads in the same step: what a watchman sends when the time has come of a thread that it was told of.
-- KEYS: thread due counters paused timer scheduled queue queues job
-- ARGV: now thread_id limit watchman term_ms spare_ms recheck_ms guard_ms back_ms patience_ms search tick function origin stamp job_id
-- Returns as overdue.lua does, with what wake.lua says of the thread instead of the second ''. Another watchman's time, or a paused queue: the
--         thread stays as it is, and what is said of it is ''
--! include common wakeup due rewind wake look
local keeps = keeps_time()
local word = ''
if keeps and redis.call('EXISTS', key.paused) == 0 then word = wake_thread() end
return look(keeps, keeps and 0 or tonumber(arg.spare_ms), false, word)
