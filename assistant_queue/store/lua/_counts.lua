-- Count a step in the metrics of the queue, in the branch that runs once however often its call
-- arrives.
-- Needs key.metrics and arg.counts: '' for nothing, else JSON; core/measures.py names the fields.
--   n  field, number, ...
--   l  lists: {ending, number, ...}, beginning of the fields, kind of label, most of the kind, the
--      next beginning, ... the last beginning
--   s  duration, ms since when, ...
-- The numbers of n and l are texts: Redis would have to format those of Lua.
-- pcall: the queue must work if the key has another type.

-- Redis keeps a small hash as one piece of memory, in which each access searches; a value as long as
-- this makes it a table.
local about = 'counts of assistant_queue, added up by its scripts; docs/metrics.md says what they are'

local is_counting = true
-- Returns whether the field is new.
local function count(field, by)
  if not is_counting then return false end
  local sum = redis.pcall('HINCRBY', key.metrics, field, by)
  if sum == tonumber(by) then
    redis.pcall('HSETNX', key.metrics, 'about', about)
    return true
  end
  if type(sum) ~= 'number' then
    -- Not a number: it begins anew. Another type: reading the metrics quarantines the key.
    is_counting = type(redis.pcall('HSET', key.metrics, field, by)) == 'number'
  end
  return false
end

-- A field that holds no more than was added is new, and only then its kind is counted: a label that
-- is known costs nothing.
local function count_labelled(group)
  local values, name = group[1], nil
  for i = 2, #group, 3 do
    name = group[i]
    local kind = group[i + 1]
    if not count(name .. values[1], values[2]) or not kind then break end
    local met = redis.pcall('HINCRBY', key.metrics, 'n:' .. kind, 1)
    if type(met) ~= 'number' or met <= group[i + 2] then break end
    redis.pcall('HINCRBY', key.metrics, 'n:' .. kind, -1)
    redis.pcall('HDEL', key.metrics, name .. values[1])
  end
  for i = 3, #values, 2 do count(name .. values[i], values[i + 1]) end
end

-- A bound belongs to its bucket, as in core/measures.py.
local function took(duration, span)
  span = math.max(span, 0)
  local bucket, bound = 0, 5
  while span > bound and bucket < 21 do
    bucket = bucket + 1
    bound = bound * 2
  end
  count('h:' .. duration .. ':' .. bucket, 1)
  count('h:' .. duration .. ':ms', span)
end

local function count_step()
  if arg.counts == '' then return end
  local step = cjson.decode(arg.counts)
  local plain = step.n
  for i = 1, #plain, 2 do count(plain[i], plain[i + 1]) end
  if step.l then
    for _, group in ipairs(step.l) do count_labelled(group) end
  end
  if step.s then
    for i = 1, #step.s, 2 do took(step.s[i], now - step.s[i + 1]) end
  end
end
