-- The check that every script makes before its first write: its keys must be sound. A script that
-- fails halfway has written one half, and a retry would write that half again. `store/scripts.py`
-- puts this file before each script and calls it for the script's keys.

-- Asking for a length costs half of what TYPE does, and is refused for a wrong type just the same.
local sizes = {hash = 'HLEN', list = 'LLEN', zset = 'ZCARD', set = 'SCARD'}
local function is_foreign(name, kind) return type(redis.pcall(sizes[kind], name)) ~= 'number' end

local function is_number(value) return #value <= 15 and string.find(value, '^%-?%d+$') ~= nil end

-- Whether the fields of a thread that were read are what every event needs. Compared one by one:
-- tables of the names would be made at every call.
local function is_sound(t)
  local function is_wrong(value) return value and not is_number(value) end
  if is_wrong(t.n) or is_wrong(t.head) or is_wrong(t.bn) or is_wrong(t.due) or is_wrong(t['until'])
      or is_wrong(t.first) or is_wrong(t.own_due) or is_wrong(t.deaths) or is_wrong(t.claimed)
      or is_wrong(t.queued) or is_wrong(t.number) or is_wrong(t.piece) or is_wrong(t.since)
      or is_wrong(t.chars) then
    return false
  end
  local state, phase = t.state, t.phase
  if state and not (t.due and (state == 'pending' or state == 'active' or state == 'retrying'
      or state == 'held')) then
    return false
  end
  if t.n and t.n ~= '0' and not (tonumber(t.n) > 0 and state and t.own_due and t.first) then
    return false
  end
  if state == 'pending' and (t.n or '0') == '0' then return false end
  if t.batch and not (string.find(t.batch, '^[%w_-]+$') and state and t.bn and t.claimed
      and (phase == 'frozen' or phase == 'sending' or phase == 'running'
        or phase == 'delivering')) then
    return false
  end
  return not t.token or t['until'] ~= nil
end
