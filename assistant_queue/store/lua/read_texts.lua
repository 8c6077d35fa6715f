-- Read: first entries of lists and fields of a hash, of many threads or batches in one command.
-- KEYS: *places
-- ARGV: lists most chars first second third fourth
-- Returns {{{entries ...}, {values ...}}, ...} for the first of them; nothing changes
-- places: of each thread or batch as many lists as `lists`, then a hash. most: entries of a list.
-- chars: once as many bytes were read, no further list is, so that long messages block nothing.
-- first to fourth: fields of the hash. A key that Redis refuses counts as empty.
local step = 5
local left = tonumber(arg.chars)
local function add_entries(into, number)
  for first = 0, tonumber(arg.most) - 1, step do
    local page = redis.pcall('LRANGE', rest_key(number), first, first + step - 1)
    for _, entry in ipairs(page) do
      into[#into + 1] = entry
      left = left - #entry
    end
    if #page < step or left <= 0 then return end
  end
end
local found = {}
local each = tonumber(arg.lists) + 1
for hash = each, rest_count, each do
  if left <= 0 then break end
  local entries = {}
  for list = hash - each + 1, hash - 1 do add_entries(entries, list) end
  local values = redis.pcall('HMGET', rest_key(hash), arg.first, arg.second, arg.third,
    arg.fourth)
  if values.err then values = {} end
  for _, value in ipairs(values) do left = left - #(value or '') end
  found[#found + 1] = {entries, values}
end
return found
