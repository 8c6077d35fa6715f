-- The characters of the waiting messages, where a limit ends the window (add.lua).
-- Needs key.thread and key.message.

-- The message has another length, or is gone.
local function count_chars(t, length)
  local before = tonumber(redis.call('HGET', key.message, 'chars') or '0') or 0
  redis.call('HSET', key.thread, 'chars', ms(math.max(tonumber(t.chars) + length - before, 0)))
end
