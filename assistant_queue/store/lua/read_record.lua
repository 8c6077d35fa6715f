-- Read: all fields of an RQ job, unless they are larger than the record of any wake-up.
-- KEYS: taken
-- ARGV: most most_fields
-- Returns {field, value, ...}, {} if there is no such job, or {'large'}
local fields = redis.call('HLEN', key.taken)
if fields > tonumber(arg.most_fields) then return {'large'} end
local size = 0
for _, name in ipairs(redis.call('HKEYS', key.taken)) do
  size = size + #name + redis.call('HSTRLEN', key.taken, name)
end
if size > tonumber(arg.most) then return {'large'} end
return redis.call('HGETALL', key.taken)
