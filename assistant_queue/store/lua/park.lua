-- Event `park`: the holder releases the thread; its batch waits, at most for a given time, for
-- answers to tool calls, or for its run to end at the provider.
-- KEYS: thread due counters metrics approvals questions scheduled queue queues job events feed
--       *calls
-- ARGV: now thread_id token seen wait_ms phase progress asked kept_ms recheck_ms tick function origin
--       stamp job_id events counts
-- Returns {'ok', ms when it is due} or {'lost'}: nothing has changed
--         {'taken'}: a call of another batch has the id of one of them; nothing has changed
-- calls: the records of all calls that the batch waits for. asked: for each its id, ms until when it
-- is open, the event that asks for an answer, what is stored of it, packed, and whether a channel asks
-- about it; a JSON list. kept_ms: how much longer its record lives. The batch may be due before any of
-- them expires.
-- The batch is due at once if one of them was answered meanwhile, or if there is a wish to stop or to
-- interrupt it that the caller does not know.
--! include common wakeup events wish person compact park counts
local t = read_thread()
-- The same call again: its reply was lost.
if not t.token and t.last == arg.token then return {'ok', t.due} end
if not holds(t) then return {'lost'} end
local asked = cjson.decode(arg.asked)
local is_answered = false
for i = 1, rest_count do
  local known = redis.call('HMGET', rest_key(i), 'batch', 'verdict')
  if known[1] and not is_of(t.batch, known[1]) then return {'taken'} end
  is_answered = is_answered or known[2] ~= false
end
count_step()
local shut = {}
for i, call in ipairs(asked) do
  if redis.call('EXISTS', rest_key(i)) == 0 then
    redis.call('HSET', rest_key(i), 'thread', arg.thread_id, 'batch', short_of(t.batch),
      'at', ms(now), 'until', ms(call[2]))
    local pieces = in_pieces('ask', 'a', call[4])
    for j = 1, #pieces, 2 do redis.call('HSET', rest_key(i), pieces[j], pieces[j + 1]) end
    redis.call('PEXPIRE', rest_key(i), ms(math.max(call[2] - now, 0) + arg.kept_ms))
    redis.call('ZADD', key.approvals, ms(now), call[1])
    if call[5] then redis.call('ZADD', key.questions, ms(now), call[1]) end
    if is_watched() then
      publish('approval_requested',
        string.sub(call[3], 1, -2) .. ',"until":' .. ms(call[2]) .. '}')
    end
  end
  if redis.call('HEXISTS', rest_key(i), 'verdict') == 1 then shut[#shut + 1] = mark_of(call[1]) end
end
local due = now + tonumber(arg.wait_ms)
if is_answered then due = now end
if #shut > 0 then
  redis.call('HSET', key.thread, 'shut', table.concat(shut, ' '))
else
  redis.call('HDEL', key.thread, 'shut')
end
return park_until(t, due)
