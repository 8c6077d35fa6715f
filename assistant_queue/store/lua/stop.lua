-- Event `stop`: wish that the frozen batch of a thread ends for good, in whatever phase it is.
-- KEYS: thread frozen over due counters scheduled queue queues job
-- ARGV: now thread_id over_ms wishes recheck_ms tick function origin stamp job_id
-- Returns {'stopping'}
--         {'none'}: there is no batch that a run answers; nothing has changed
-- over: of this very call; a second one changes nothing, and gets the same reply: the thread may
-- have another batch since. wishes: the channel on which workers are notified.
--! include common wakeup due quiet wish stop
local before = redis.call('GET', key.over)
if before then return {before} end
local t = read_thread()

-- A batch without a message that wants a reply is only written to the conversation.
local function is_answered()
  for _, entry in ipairs(redis.call('LRANGE', key.frozen, 0, -1)) do
    if not is_marked(entry) then return true end
  end
  return false
end

local word = 'none'
if t.batch and t.phase ~= 'delivering' and is_answered() then
  word = 'stopping'
  wish_to_stop(t)
end
redis.call('SET', key.over, word, 'PX', arg.over_ms)
return {word}
