-- The check that every script makes before its first write: its keys must be sound. A script that
-- fails halfway has written one half, and a retry would write that half again. `store/scripts.py`
-- puts this file before each script and calls it for the script's keys.

-- Asking for a length costs half of what TYPE does, and is refused for a wrong type just the same.
local sizes = {hash = 'HLEN', list = 'LLEN', zset = 'ZCARD', set = 'SCARD'}
local function is_foreign(name, kind) return type(redis.pcall(sizes[kind], name)) ~= 'number' end

local states = {pending = true, active = true, retrying = true, held = true}
local phases = {frozen = true, sending = true, running = true, delivering = true}

local numbers = {['n'] = 1, ['head'] = 1, ['bn'] = 1, ['due'] = 1, ['until'] = 1, ['first'] = 1,
  ['own_due'] = 1, ['deaths'] = 1, ['claimed'] = 1, ['queued'] = 1, ['number'] = 1, ['piece'] = 1,
  ['since'] = 1, ['chars'] = 1}

local function is_number(value) return #value <= 15 and string.find(value, '^%-?%d+$') ~= nil end

-- Whether the fields of a thread that were read are what every event needs.
local function is_sound(t)
  for name, value in pairs(t) do
    if numbers[name] and not is_number(value) then return false end
  end
  if t.state and not (states[t.state] and t.due) then return false end
  if t.n and t.n ~= '0' and not (tonumber(t.n) > 0 and t.state and t.own_due and t.first) then
    return false
  end
  if t.state == 'pending' and (t.n or '0') == '0' then return false end
  if t.batch and not (string.find(t.batch, '^[%w_-]+$') and t.state and phases[t.phase or '']
      and t.bn and t.claimed) then
    return false
  end
  return not t.token or t['until'] ~= nil
end
