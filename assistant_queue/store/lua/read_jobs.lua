-- Read: the data of RQ jobs, each unless it is larger than any wake-up.
-- KEYS: *jobs
-- ARGV: most
-- Returns for each {data, its bytes}; the data is '' if there are more than `most` bytes
--         {} if there is no such job, or it has no data; {'', -1} if its key has another type
local found = {}
for i = 1, rest_count do
  local size = redis.pcall('HSTRLEN', rest_key(i), 'data')
  if type(size) ~= 'number' then
    found[i] = {'', -1}
  elseif size == 0 then
    found[i] = {}
  elseif size > tonumber(arg.most) then
    found[i] = {'', size}
  else
    found[i] = {redis.call('HGET', rest_key(i), 'data'), size}
  end
end
return found
