-- Event `wake`, and a scan of all other threads in the same step: sent by a scheduler when the due
-- time of a thread that it knows has come.
-- KEYS: thread due stopping counters paused leader runs polls scheduled queue queues job
-- ARGV: now thread_id limit scheduler term_ms spare_ms recheck_ms guard_ms back_ms patience_ms
--       search poll_gap tick function origin stamp job_id
-- Returns the reply of overdue.lua, with the word of wake.lua instead of the second ''. If another
--         scheduler is the leader, or the queue is paused and no batch of the thread is to be
--         stopped, the thread does not change and the word is ''
--! include common wakeup due quiet rewind wish person air wake look
local leads = is_leader()
local word = ''
local function may_be_woken()
  return redis.call('EXISTS', key.paused) == 0
    or redis.call('ZSCORE', key.stopping, arg.thread_id)
end
if leads and may_be_woken() then word = wake_thread() end
return look(leads, leads and 0 or tonumber(arg.spare_ms), false, word)
