-- Event `promote`: a waiting message is to interrupt, or to steer, the batch that is under way.
-- KEYS: thread pending message over due counters scheduled queue queues job
-- ARGV: now thread_id message_id rev wish wishes over_ms recheck_ms tick function origin stamp job_id
-- Returns {'wished'}
--         {'none'}: there is no batch, or a person answers the thread
--         {'gone' | 'settled' | 'taken' | 'changed'}
-- over: of this very call; a second one changes nothing, and gets the same reply: the thread may
-- have another batch since.
--! include common wakeup waiting wish person parked want
local before = redis.call('GET', key.over)
if before then return {before} end
local t = read_thread()
local word = waiting_index(t)
if type(word) == 'number' then
  word = t.batch and t.phase ~= 'delivering' and not is_taken_over(t) and 'wished' or 'none'
end
if word == 'wished' then want(t, arg.wish) end
if word ~= 'changed' then redis.call('SET', key.over, word, 'PX', arg.over_ms) end
return {word}
