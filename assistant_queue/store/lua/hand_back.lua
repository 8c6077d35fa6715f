-- Event `hand_back`: the model answers the thread again. What came after the person's last words is
-- answered first, at once if its window is over.
-- KEYS: thread due pausing counters metrics over scheduled queue queues job outbox deliveries
--       events feed
-- ARGV: now thread_id over_ms recheck_ms guard_ms back_ms tick function origin stamp job_id events
--       counts
-- Returns {'handed_back'} or {'none'}: no person answers it, nothing has changed
-- over: of this very call; a second one changes nothing, and gets the same reply: the thread may
-- have been taken over since. A thread that is paused besides stays paused.
--! include common wakeup events due quiet rewind wish person check_again counts
local before = redis.call('GET', key.over)
if before then return {before} end
local t = read_thread()
local word = is_taken_over(t) and 'handed_back' or 'none'
redis.call('SET', key.over, word, 'PX', arg.over_ms)
if word == 'none' then return {word} end
count_step()
local person = t.taken_by
redis.call('HDEL', key.thread, 'taken_by', 'taken_at')
t.taken_by = nil
if t.paused == '2' then
  redis.call('HDEL', key.thread, 'paused')
  redis.call('ZREM', key.pausing, arg.thread_id)
  t.paused = nil
  check_again(t)
elseif t.state and t.state ~= 'active' and wish_of(t) ~= 'stop' then
  redis.call('ZREM', key.due, arg.thread_id)
end
if is_watched() then publish('handed_back', cjson.encode({by = person})) end
return {word}
