-- What every script does before its first write: see that its keys are what they should be. A script that stops in the middle has written
-- a half, and a repetition would write that half again. `store/scripts.py` puts this in front of each script and calls it for its keys.

-- Asking for a length costs half of what TYPE does, and is refused just so.
local sizes = {hash = 'HLEN', list = 'LLEN', zset = 'ZCARD', set = 'SCARD'}
local function is_foreign(name, kind) return type(redis.pcall(sizes[kind], name)) ~= 'number' end

local states = {pending = true, active = true, retrying = true, held = true}
local phases = {frozen = true, sending = true, running = true, delivering = true}

local numbers = {['n'] = 1, ['head'] = 1, ['bn'] = 1, ['due'] = 1, ['until'] = 1, ['first'] = 1, ['own_due'] = 1, ['deaths'] = 1,
  ['claimed'] = 1, ['queued'] = 1, ['number'] = 1, ['piece'] = 1}

local function is_number(value) return #value <= 15 and string.find(value, '^%-?%d+$') ~= nil end

-- A thread's hash as it must be for any event to make sense of it. Fields that are not known do no harm.
local function is_sound(t)
  for name, value in pairs(t) do
    if numbers[name] and not is_number(value) then return false end
  end
  if t.state and not (states[t.state] and t.due) then return false end
  if t.n and t.n ~= '0' and not (tonumber(t.n) > 0 and t.state and t.own_due and t.first) then return false end
  if t.state == 'pending' and (t.n or '0') == '0' then return false end
  if t.batch and not (string.find(t.batch, '^[%w_-]+$') and t.state and phases[t.phase or ''] and t.bn and t.claimed) then return false end
  return not t.token or t['until'] ~= nil
end

local function thread_fields()
  local flat = redis.call('HGETALL', key.thread)
  local t = {}
  for i = 1, #flat, 2 do t[flat[i]] = flat[i + 1] end
  return t
end
