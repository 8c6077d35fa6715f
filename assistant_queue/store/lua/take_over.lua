-- Event `take_over`: a person answers the thread instead of the model, until it is handed back.
-- KEYS: thread frozen over due stopping pausing counters metrics scheduled queue queues job outbox
--       deliveries events feed
-- ARGV: now thread_id by instead_of stops over_ms wishes recheck_ms guard_ms back_ms tick function
--       origin stamp job_id events counts
-- Returns {'taken', ms since when, the person before or ''}
--         {'kept', ms since when, ''}: it is this person's already; nothing has changed
--         {'other', ms since when, the person}: it is another person's; nothing has changed
-- over: of this very call; a second one changes nothing, and gets the same reply: the thread may
-- have been handed back since. instead_of: the person that it is taken over from, or ''. stops: 1
-- to stop the batch that is under way; else it ends first.
--! include common wakeup events due quiet rewind wish stop person check_again counts
local before = redis.call('GET', key.over)
if before then return cjson.decode(before) end
local t = read_thread()
local person = is_taken_over(t) and t.taken_by or ''

local function answered(word, since, name)
  local reply = {word, since, name}
  redis.call('SET', key.over, cjson.encode(reply), 'PX', arg.over_ms)
  return reply
end

if person == arg.by then return answered('kept', t.taken_at or ms(now), '') end
if person ~= '' and person ~= arg.instead_of then
  return answered('other', t.taken_at or ms(now), person)
end
count_step()
local was_paused = holds_replies(t)
list_pause(t)
t.taken_by, t.taken_at, t.paused = arg.by, ms(now), t.paused or '2'
redis.call('HSET', key.thread, 'taken_by', t.taken_by, 'taken_at', t.taken_at, 'paused', t.paused)
if arg.stops == '1' and is_stoppable(t) then
  wish_to_stop(t)
  if was_paused then check_replies() end
elseif was_paused and t.batch then
  check_again(t) -- a pause kept it from its end
elseif was_paused then
  check_replies()
elseif t.state and t.state ~= 'active' and is_kept_back(t) then
  redis.call('ZREM', key.due, arg.thread_id)
end
if is_watched() then
  publish('taken_over', cjson.encode({by = arg.by, instead_of = person}))
end
return answered('taken', t.taken_at, person)
