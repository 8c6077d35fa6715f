-- Wish for a batch that is under way, because of a message that waits.
-- Needs key.thread, arg.thread_id, arg.wishes (the channel on which workers are notified), and what
-- _wish.lua and _parked.lua need.

local strength = {steer = 1, interrupt = 2, stop = 3}

-- A stronger wish, or the same one, is not changed.
local function want(t, kind)
  if (strength[wish_of(t)] or 0) >= strength[kind] then return end
  redis.call('HSET', key.thread, 'wish', kind .. ' ' .. t.batch)
  if t.token then
    redis.call('PUBLISH', arg.wishes, arg.thread_id)
  elseif kind == 'interrupt' and is_parked(t) then
    end_park(t)
  end
end
