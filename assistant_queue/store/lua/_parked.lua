-- A batch is parked: it waits for answers to its tool calls from outside, or for its run to end at
-- the provider, and holds no lease. Its stored state is `held`, which version 0.1 knows, with a mark
-- that any later holder makes invalid: the end of the token of the worker that parked it, or the
-- whole token.
-- Needs what _compact.lua needs.

local function is_parked(t)
  return t.state == 'held' and t.token == nil and t.parked ~= nil and t.last ~= nil
    and t.parked ~= '' and t.parked == string.sub(t.last, -#t.parked)
end

-- The batch is due: a worker looks at it.
-- Needs key.thread, key.due, arg.thread_id, and what _wakeup.lua, _wish.lua and _person.lua
-- need.
local function end_park(t)
  t.due = ms(now)
  redis.call('HSET', key.thread, 'due', t.due)
  if is_kept_back(t) and wish_of(t) ~= 'stop' then return end
  redis.call('HSET', key.thread, 'wake', wake_at(t.wake, now))
  redis.call('ZADD', key.due, recheck_at(), arg.thread_id)
end

-- Needs arg.news, and what _events.lua needs.
local function publish_settled(t, id)
  publish('approval_settled', '{"batch_id":' .. cjson.encode(t.batch) .. ',"call_id":'
    .. cjson.encode(id) .. ',' .. string.sub(arg.news, 2))
end

-- A call waits for an answer no more: `shut` has the marks of such calls. In the form that an earlier
-- version stored, `asks` has the batch's id, and the calls that do wait.
local function drop_ask(t, id)
  if not t.asks then
    t.shut = t.shut and t.shut .. ' ' .. mark_of(id) or mark_of(id)
    redis.call('HSET', key.thread, 'shut', t.shut)
    return
  end
  local open = {}
  for one in string.gmatch(t.asks, '%S+') do
    if one ~= id then open[#open + 1] = one end
  end
  t.asks = #open > 1 and table.concat(open, ' ') or nil
  if t.asks then
    redis.call('HSET', key.thread, 'asks', t.asks)
  else
    redis.call('HDEL', key.thread, 'asks')
  end
end

-- A call was settled: a channel that has asked about it shows that; one that has not asks no more. A
-- worker that asks at this moment finds it when it notes that it has.
-- sent, asker: of its record. Needs key.questions.
local function settle_question(id, sent, asker)
  if asker and string.sub(asker, 1, 1) ~= '-' then return end
  if sent then
    redis.call('ZADD', key.questions, ms(now), id)
  else
    redis.call('ZREM', key.questions, id)
  end
end
