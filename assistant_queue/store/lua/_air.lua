-- A batch that is parked while the provider works on its run. Fields of the thread: `run`, the id of
-- that run, which `runs` leads back from; `turn`, ms of the poll for which its place is reserved.
-- Needs key.thread and key.runs.

-- Nothing waits for the run any more: its batch is woken, or claimed.
local function leave_air(t)
  if not t.run then return end
  redis.call('HDEL', key.runs, t.run)
  redis.call('HDEL', key.thread, 'run', 'turn')
  t.run, t.turn = nil, nil
end

-- Milliseconds. Chosen: longer than a line is; a place that is past counts as free anyway.
local line_kept = 3600000

-- A poll has its place in a line of all polls of the queue, one in `poll_gap` ms. Return the ms at
-- which it may be made, nil for now. A batch with a wish is not polled, but looked at for that.
-- Needs key.polls, arg.poll_gap, and what _wish.lua needs.
local function turn_of(t)
  if not t.run or t.turn or wish_of(t) ~= '' then return nil end
  local gap = tonumber(arg.poll_gap)
  local free = redis.pcall('GET', key.polls)
  free = type(free) == 'string' and tonumber(free) or 0
  -- As many as are waited for can be ahead; more, if Redis' clock was set back.
  if free - now > (redis.call('HLEN', key.runs) + 1) * gap then free = 0 end
  local at = math.max(now, math.ceil(free))
  local later = math.max(now, free) + gap
  redis.call('SET', key.polls, string.format('%.3f', later), 'PX', line_kept)
  redis.call('HSET', key.thread, 'turn', ms(at))
  if at <= now then return nil end
  redis.call('HSET', key.thread, 'due', ms(at))
  return at
end
