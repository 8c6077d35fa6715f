-- Event `stop`: wish that the frozen batch of a thread ends for good, in whatever phase it is.
-- KEYS: thread frozen over due stopping counters scheduled queue queues job
-- ARGV: now thread_id over_ms wishes recheck_ms tick function origin stamp job_id
-- Returns {'stopping'}
--         {'none'}: there is no batch that a run answers; nothing has changed
-- over: of this very call; a second one changes nothing, and gets the same reply: the thread may
-- have another batch since. wishes: the channel on which workers are notified.
--! include common wakeup due quiet wish stop
local before = redis.call('GET', key.over)
if before then return {before} end
local t = read_thread()

local word = 'none'
if is_stoppable(t) then
  word = 'stopping'
  wish_to_stop(t)
end
redis.call('SET', key.over, word, 'PX', arg.over_ms)
return {word}
