-- The length of an adaptive window: as long as the next message of this thread is still likely to
-- come. Estimated as TCP estimates when an answer is overdue (RFC 6298): the mean of the times
-- between two messages of a burst, and four times their mean deviation.
-- core/window.py has the rule in Python.
-- Needs key.pace and arg.max_wait_ms.

-- A month without a message. Chosen: the pace of a person hardly changes, and a key without a
-- lifetime would outlive its thread.
local pace_ttl_ms = 2592000000

-- is_burst: the message follows others that are not answered yet.
local function adapted(delay, is_burst)
  local most = tonumber(arg.max_wait_ms)
  local stored = redis.pcall('GET', key.pace)
  local gap, deviation, seen = string.match(
    type(stored) == 'string' and stored or '', '^(%d+) (%d+) (%d+)$')
  gap, deviation = tonumber(gap or '0'), tonumber(deviation or '0')
  local ago = seen and now - tonumber(seen)
  if is_burst and ago and ago >= 0 and ago <= most then
    ago = math.max(ago, 1)
    if gap == 0 then
      gap, deviation = ago, math.floor(ago / 2)
    else
      deviation = math.floor((3 * deviation + math.abs(ago - gap)) / 4)
      gap = math.max(math.floor((7 * gap + ago) / 8), 1)
    end
  end
  redis.call('SET', key.pace, ms(gap) .. ' ' .. ms(deviation) .. ' ' .. ms(now),
    'PX', pace_ttl_ms)
  if gap == 0 then return delay end
  return math.max(math.min(gap + 4 * deviation, most), math.floor(delay / 10))
end
